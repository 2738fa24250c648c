//! LeaveGroup: members go by themselves, or an administrator takes them out (KIP-345).

use bellwether_wire::ResponseError;
use bellwether_wire::coordinator::GroupRecord;
use bellwether_wire::messages::leave_group_request::MemberIdentity;
use bellwether_wire::messages::leave_group_response::MemberResponse;
use bellwether_wire::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::classic::ClassicState;
use super::messages::{Caller, GroupEffect, GroupResponse, Moment};
use super::timers::Timer;
use super::{Group, GroupCoordinator};

impl GroupCoordinator {
    /// What it stores of itself, and the answer, which waits for that.
    pub(super) fn leave(
        &mut self,
        at: &Moment<'_>,
        caller: &Caller,
        request: LeaveGroupRequest,
        fx: &mut Vec<GroupEffect>,
    ) -> (Vec<GroupRecord>, GroupResponse) {
        let mut response = LeaveGroupResponse::default();
        let id = request.group_id.to_string();
        if id.is_empty() {
            response.error_code = ResponseError::InvalidGroupId.code();
            return (Vec::new(), GroupResponse::Leave(response));
        }
        let mut members = request.members;
        if caller.version < 3 {
            let mut one = MemberIdentity::default();
            one.member_id = request.member_id;
            members = vec![one];
        }
        let mut records = Vec::new();
        let errors: Vec<Option<ResponseError>> = match self.groups.get(&id) {
            Some(Group::Classic(_)) => {
                let errors = members.iter().map(|m| self.leave_classic(&id, m, fx).err()).collect::<Vec<_>>();
                if errors.iter().any(Option::is_none) {
                    self.somebody_left(at, &id, fx);
                }
                errors
            }
            Some(Group::Consumer(group)) => {
                let found: Vec<_> = members
                    .iter()
                    .map(|m| group.find(&m.member_id, m.group_instance_id.as_deref()).map(str::to_string))
                    .collect();
                let mut leaving: Vec<String> = found.iter().flatten().cloned().collect();
                leaving.sort();
                leaving.dedup();
                records = self.fence_consumer_members(at, &id, &leaving, fx);
                found.into_iter().map(Result::err).collect()
            }
            None => vec![Some(ResponseError::UnknownMemberId); members.len()],
        };
        for (member, error) in members.iter().zip(errors) {
            let mut answer = MemberResponse::default();
            (answer.member_id, answer.group_instance_id) = (member.member_id.clone(), member.group_instance_id.clone());
            answer.error_code = error.map_or(0, |e| e.code());
            response.members.push(answer);
        }
        if caller.version < 3 {
            response.error_code = response.members.first().map_or(0, |m| m.error_code);
            response.members.clear();
        }
        (records, GroupResponse::Leave(response))
    }

    fn leave_classic(
        &mut self,
        id: &str,
        member: &MemberIdentity,
        fx: &mut Vec<GroupEffect>,
    ) -> Result<(), ResponseError> {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return Err(ResponseError::UnknownMemberId) };
        let member_id = member.member_id.as_str();
        let leaving = match member.group_instance_id.as_deref() {
            // By its instance alone, whatever its id is.
            Some(instance) if member_id.is_empty() => {
                group.static_members.get(instance).cloned().ok_or(ResponseError::UnknownMemberId)?
            }
            _ if group.pending_join.remove(member_id) => {
                self.timers.cancel(&Timer::session(id, member_id));
                return Ok(());
            }
            instance => {
                group.check_member(member_id, instance, self.rules)?;
                member_id.to_string()
            }
        };
        self.drop_member(id, &leaving, fx);
        Ok(())
    }

    fn somebody_left(&mut self, at: &Moment<'_>, id: &str, fx: &mut Vec<GroupEffect>) {
        match self.classic(id).map(|g| g.state) {
            Some(ClassicState::Stable | ClassicState::CompletingRebalance) => self.rebalance_or_complete(at, id, fx),
            Some(ClassicState::PreparingRebalance) => self.complete_if_all_joined(at, id, fx),
            _ => {}
        }
    }
}
