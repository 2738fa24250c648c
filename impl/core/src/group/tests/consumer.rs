//! The newer protocol (KIP-848): epochs, reconciliation, static members, assignors, and who may commit.

use super::super::assignor::{Subscriber, assign};
use super::super::consumer::is_subset;
use super::*;
use ResponseError::*;

type Given = BTreeMap<u128, BTreeSet<i32>>;

/// A member as its client is: its epoch, and what it has.
struct Client {
    id: String,
    epoch: i32,
    has: Given,
}

impl Client {
    fn new(id: &str) -> Client {
        Client { id: id.into(), epoch: 0, has: Given::new() }
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let mut request = ConsumerGroupHeartbeatRequest::default();
        (request.group_id, request.member_id, request.member_epoch) = (group_id(), text(&self.id), self.epoch);
        request.rebalance_timeout_ms = -1;
        request.topic_partitions = Some(owned(&self.has));
        request
    }

    fn joining(&self, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
        let mut request = self.request();
        (request.member_epoch, request.rebalance_timeout_ms) = (0, 30_000);
        request.subscribed_topic_names = Some(topics.iter().map(|t| text(t).into()).collect());
        request.topic_partitions = Some(vec![]);
        request
    }

    fn take(&mut self, response: ConsumerGroupHeartbeatResponse) -> Option<ResponseError> {
        if let Some(error) = error(response.error_code) {
            return Some(error);
        }
        self.epoch = response.member_epoch;
        if let Some(given) = given(&response) {
            self.has = given;
        }
        None
    }

    fn join(&mut self, w: &mut World, topics: &[&str]) -> Option<ResponseError> {
        let response = w.consumer_beat(self.joining(topics));
        self.take(response)
    }

    fn beat(&mut self, w: &mut World) -> Option<ResponseError> {
        let response = w.consumer_beat(self.request());
        self.take(response)
    }

    fn leave(&mut self, w: &mut World, epoch: i32) -> Option<ResponseError> {
        let mut request = self.request();
        (request.member_epoch, request.topic_partitions) = (epoch, None);
        error(w.consumer_beat(request).error_code)
    }

    fn count(&self) -> usize {
        self.has.values().map(BTreeSet::len).sum()
    }
}

/// Nobody has what another has.
fn disjoint(clients: &[&Client]) -> bool {
    let all: Vec<_> =
        clients.iter().flat_map(|c| c.has.iter().flat_map(|(t, ps)| ps.iter().map(move |p| (*t, *p)))).collect();
    all.iter().collect::<BTreeSet<_>>().len() == all.len()
}

#[test]
fn a_second_member_gets_partitions_only_when_the_first_has_given_them_up() {
    let mut w = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    assert_eq!(a.join(&mut w, &["t"]), None);
    assert_eq!((a.epoch, a.count()), (1, 4));
    assert_eq!(b.join(&mut w, &["t"]), None);
    assert_eq!((b.epoch, b.count()), (2, 0), "nothing is free");
    assert_eq!(w.state(), "Reconciling");
    // The first hears what to give up, and stays at its epoch until it says that it has.
    let before = a.has.clone();
    let response = w.consumer_beat(a.request());
    assert_eq!(response.member_epoch, 1);
    let less = given(&response).expect("a smaller assignment");
    assert_eq!(less.values().map(BTreeSet::len).sum::<usize>(), 2);
    assert_eq!(b.beat(&mut w), None);
    assert_eq!(b.count(), 0, "assigned before it was revoked");
    a.has = before;
    assert_eq!(a.beat(&mut w), None);
    assert_eq!((a.epoch, b.count()), (1, 0), "it still has them");
    a.has = less;
    assert_eq!(a.beat(&mut w), None);
    assert_eq!(a.epoch, 2);
    assert_eq!(b.beat(&mut w), None);
    assert_eq!((a.count(), b.count(), disjoint(&[&a, &b])), (2, 2, true));
    assert_eq!(w.state(), "Stable");
}

#[test]
fn members_come_and_go_and_every_partition_has_one_owner_in_the_end() {
    let mut w = world();
    let mut clients: Vec<Client> = ["a", "b", "c"].map(Client::new).into();
    for client in &mut clients {
        assert_eq!(client.join(&mut w, &["t", "u"]), None);
    }
    let settle = |w: &mut World, clients: &mut Vec<Client>| {
        for _ in 0..6 {
            for client in clients.iter_mut() {
                assert_eq!(client.beat(w), None);
            }
            assert!(disjoint(&clients.iter().collect::<Vec<_>>()));
        }
        clients.iter().map(Client::count).sum::<usize>()
    };
    assert_eq!(settle(&mut w, &mut clients), 6);
    assert_eq!(clients.iter().map(Client::count).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(clients[0].leave(&mut w, -1), None);
    clients.remove(0);
    assert_eq!(settle(&mut w, &mut clients), 6);
    w.fail_over();
    assert_eq!(settle(&mut w, &mut clients), 6);
    // One is silent for longer than its session.
    for _ in 0..10 {
        w.pass(5_000);
        assert_eq!(clients[1].beat(&mut w), None);
    }
    assert_eq!(clients[0].beat(&mut w), Some(UnknownMemberId));
    clients.remove(0);
    assert_eq!(settle(&mut w, &mut clients), 6);
    // A topic gets more partitions, and another one comes to be.
    w.topics.put("u", 2, 5);
    assert_eq!(settle(&mut w, &mut clients), 9);
}

#[test]
fn requests_with_something_wrong_get_kafkas_errors() {
    let mut w = world();
    let client = Client::new("a");
    let mut wrong = |change: &dyn Fn(&mut ConsumerGroupHeartbeatRequest)| {
        let mut request = client.joining(&["t"]);
        change(&mut request);
        let response = w.consumer_beat(request);
        assert!(response.error_message.is_some());
        error(response.error_code)
    };
    assert_eq!(wrong(&|r| r.member_id = text("")), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.group_id = text(" ").into()), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.instance_id = Some(text(""))), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.rack_id = Some(text(""))), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.rebalance_timeout_ms = -1), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.topic_partitions = None), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.subscribed_topic_names = None), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.member_epoch = -3), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.member_epoch = -2), Some(InvalidRequest));
    assert_eq!(wrong(&|r| r.server_assignor = Some(text("sticky"))), Some(UnsupportedAssignor));
    assert_eq!(wrong(&|r| r.subscribed_topic_regex = Some(text("(")),), Some(InvalidRegularExpression));
    assert_eq!(wrong(&|r| r.member_epoch = 5), Some(GroupIdNotFound));
    assert_eq!(wrong(&|r| r.member_epoch = -1), Some(GroupIdNotFound));
    assert_eq!(w.state(), "Dead");
}

#[test]
fn an_epoch_that_is_not_the_members_is_fenced() {
    let mut w = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    assert_eq!(a.join(&mut w, &["t"]), None);
    assert_eq!(b.join(&mut w, &["t"]), None);
    let old = Client { id: a.id.clone(), epoch: a.epoch, has: a.has.clone() };
    for _ in 0..3 {
        assert_eq!(a.beat(&mut w), None);
        assert_eq!(b.beat(&mut w), None);
    }
    assert_eq!(a.epoch, 2);
    let mut ahead = Client { id: "a".into(), epoch: 3, has: a.has.clone() };
    assert_eq!(ahead.beat(&mut w), Some(FencedMemberEpoch));
    // The epoch before is that of an answer that was lost, unless the member has what was taken from it.
    let mut lost = Client { id: "a".into(), epoch: 1, has: a.has.clone() };
    assert_eq!(lost.beat(&mut w), None);
    assert_eq!(lost.epoch, 2);
    let mut zombie = Client { has: old.has, ..Client { id: old.id, epoch: 1, has: Given::new() } };
    assert_eq!(zombie.beat(&mut w), Some(FencedMemberEpoch));
    assert_eq!(Client::new("nobody").leave(&mut w, -1), Some(UnknownMemberId));
    let mut nobody = Client { epoch: 2, ..Client::new("nobody") };
    assert_eq!(nobody.beat(&mut w), Some(UnknownMemberId));
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_fenced() {
    let mut w = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    assert_eq!(a.join(&mut w, &["t"]), None);
    let all = a.has.clone();
    assert_eq!(b.join(&mut w, &["t"]), None);
    for _ in 0..8 {
        a.has = all.clone();
        let _ = a.beat(&mut w);
        assert_eq!(b.beat(&mut w), None);
        w.pass(4_000);
    }
    assert_eq!(a.beat(&mut w), Some(UnknownMemberId));
    assert_eq!(b.beat(&mut w), None);
    assert_eq!(b.count(), 4);
}

#[test]
fn a_static_member_comes_back_to_its_partitions() {
    let mut w = world();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    let mut request = a.joining(&["t"]);
    request.instance_id = Some(text("i"));
    let response = w.consumer_beat(request);
    assert_eq!(a.take(response), None);
    assert_eq!(b.join(&mut w, &["t"]), None);
    for _ in 0..3 {
        let mut request = a.request();
        request.instance_id = Some(text("i"));
        let response = w.consumer_beat(request);
        assert_eq!(a.take(response), None);
        assert_eq!(b.beat(&mut w), None);
    }
    assert_eq!((a.count(), b.count()), (2, 2));
    // Another process under the same instance must wait until this one has left.
    let mut other = Client::new("a2");
    let mut joining = other.joining(&["t"]);
    joining.instance_id = Some(text("i"));
    assert_eq!(error(w.consumer_beat(joining.clone()).error_code), Some(UnreleasedInstanceId));
    let mut leaving = a.request();
    (leaving.member_epoch, leaving.instance_id) = (-2, Some(text("i")));
    assert_eq!(error(w.consumer_beat(leaving).error_code), None);
    assert_eq!(b.beat(&mut w), None);
    assert_eq!(b.count(), 2, "its partitions are kept for it");
    w.fail_over();
    let response = w.consumer_beat(joining);
    assert_eq!(other.take(response), None);
    assert_eq!((&other.has, disjoint(&[&other, &b])), (&a.has, true));
    // The one before is fenced.
    let mut zombie = a.request();
    zombie.instance_id = Some(text("i"));
    assert_eq!(error(w.consumer_beat(zombie).error_code), Some(FencedInstanceId));
}

#[test]
fn a_static_member_that_does_not_come_back_loses_its_partitions() {
    let mut w = world();
    let mut a = Client::new("a");
    let mut request = a.joining(&["t"]);
    request.instance_id = Some(text("i"));
    let response = w.consumer_beat(request);
    assert_eq!(a.take(response), None);
    let mut leaving = a.request();
    (leaving.member_epoch, leaving.instance_id) = (-2, Some(text("i")));
    assert_eq!(error(w.consumer_beat(leaving).error_code), None);
    w.pass(46_000);
    assert_eq!(w.state(), "Empty");
}

#[test]
fn offsets_are_committed_at_the_members_epoch_and_at_no_other() {
    let mut w = world();
    let mut a = Client::new("a");
    assert_eq!(a.join(&mut w, &["t"]), None);
    let mut outcome = |member: &str, epoch: i32, version: i16| {
        w.version = version;
        let token = w.commit(member, epoch, "t", 5);
        w.committed(token)[0]
    };
    assert_eq!(outcome("a", 1, 9), None);
    assert_eq!(outcome("a", 0, 9), Some(StaleMemberEpoch));
    assert_eq!(outcome("a", 2, 9), Some(StaleMemberEpoch));
    assert_eq!(outcome("b", 1, 9), Some(UnknownMemberId));
    assert_eq!(outcome("", -1, 9), Some(UnknownMemberId));
    assert_eq!(outcome("a", 1, 8), Some(UnsupportedVersion));
    w.version = NEWEST;
    let mut found = |member: Option<&str>, epoch: i32| {
        let token = w.ask(GroupRequest::Fetch(fetch(Some("t"), member, epoch)));
        let Some(GroupResponse::Fetch(found)) = w.answers.get(&token) else { panic!("no answer") };
        match error(found.error_code) {
            Some(error) => Err(error),
            None => Ok(found.topics[0].partitions[0].committed_offset),
        }
    };
    assert_eq!(found(None, -1), Ok(5));
    assert_eq!(found(Some("a"), 1), Ok(5));
    assert_eq!(found(Some("a"), 0), Err(StaleMemberEpoch));
    assert_eq!(found(Some("b"), 1), Err(UnknownMemberId));
    assert_eq!(a.leave(&mut w, -1), None);
    let token = w.commit("", -1, "t", 9);
    assert_eq!(w.committed(token), [None], "an administrator, and nobody is there");
}

#[test]
fn the_protocols_do_not_mix_but_an_empty_group_may_change() {
    let mut w = world();
    let mut a = Client::new("a");
    assert_eq!(a.join(&mut w, &["t"]), None);
    let token = w.join("");
    assert_eq!(error(w.joined(token).error_code), Some(InconsistentGroupProtocol));
    assert_eq!(w.beat("a", 1), Some(UnknownMemberId));
    let token = w.sync("a", 1, &[]);
    assert_eq!(error(w.synced(token).error_code), Some(UnknownMemberId));
    w.commit("a", 1, "t", 8);
    // An administrator takes the member out with the classic LeaveGroup.
    let left = w.leave(&[("nobody", None), ("a", None)]);
    assert_eq!((error(left.members[0].error_code), left.members[1].error_code), (Some(UnknownMemberId), 0));
    let (_, first) = w.newcomer();
    assert_eq!(w.joined(first).generation_id, 1);
    assert_eq!(w.state(), "CompletingRebalance");
    assert_eq!(a.join(&mut w, &["t"]), Some(GroupIdNotFound), "it has members of the other kind");
    let member = w.joined(first).member_id.to_string();
    w.leave(&[(&member, None)]);
    assert_eq!(a.join(&mut w, &["t"]), None);
    w.fail_over();
    assert_eq!((w.state().as_str(), w.offset("t")), ("Stable", 8), "the offsets stay whatever the protocol");
}

#[test]
fn nothing_is_kept_of_a_group_that_is_gone() {
    let mut w = world();
    let leave = |w: &mut World| {
        let mut a = Client::new("a");
        assert_eq!((a.join(w, &["t"]), a.beat(w)), (None, None));
        assert_eq!(w.coordinator.checked.len(), 1);
        let response = w.consumer_beat(a.request().with_member_epoch(-1));
        assert_eq!(error(response.error_code), None);
    };
    leave(&mut w);
    w.ask(GroupRequest::DeleteGroups(vec!["g".into()]));
    assert_eq!((w.state().as_str(), w.coordinator.checked.len()), ("Dead", 0));
    leave(&mut w);
    w.version = 3;
    w.join("");
    assert_eq!((w.state().as_str(), w.coordinator.checked.len()), ("CompletingRebalance", 0));
}

#[test]
fn members_subscribe_by_pattern() {
    let mut w = world();
    w.topics.put("tt", 3, 1);
    let mut a = Client::new("a");
    let mut request = a.joining(&[]);
    (request.subscribed_topic_names, request.subscribed_topic_regex) = (None, Some(text("t+")));
    let response = w.consumer_beat(request);
    assert_eq!(a.take(response), None);
    assert_eq!((a.count(), a.has.len()), (5, 2));
    w.topics.put("ttt", 4, 2);
    assert_eq!(a.beat(&mut w), None);
    assert_eq!((a.count(), a.has.contains_key(&4)), (7, true));
    w.fail_over();
    assert_eq!(a.beat(&mut w), None);
    assert_eq!(a.count(), 7);
}

#[test]
fn patterns_are_resolved_once_after_a_change_of_metadata() {
    let mut w = world();
    let mut clients = ["a", "b"].map(Client::new);
    for (client, pattern) in clients.iter_mut().zip(["t+", "u+"]) {
        let mut request = client.joining(&[]);
        (request.subscribed_topic_names, request.subscribed_topic_regex) = (None, Some(text(pattern)));
        let response = w.consumer_beat(request);
        assert_eq!(client.take(response), None);
    }
    let listed = |w: &mut World, clients: &mut [Client]| {
        let before = w.topics.listed.get();
        for n in 0..6 {
            assert_eq!(clients[n % 2].beat(w), None);
        }
        w.topics.listed.get() - before
    };
    assert_eq!(listed(&mut w, &mut clients), 0);
    // Another topic, which nobody reads: nothing is written, and the patterns are not looked at again.
    w.topics.put("x", 7, 1);
    let end = w.log.len();
    assert_eq!((listed(&mut w, &mut clients), w.log.len()), (1, end));
    // One that somebody reads, and whose record is refused: it is not forgotten.
    w.topics.put("tt", 8, 1);
    w.broken = Some(NotEnoughReplicas);
    assert_eq!(clients[1].beat(&mut w), Some(CoordinatorNotAvailable));
    w.broken = None;
    for n in 0..6 {
        assert_eq!(clients[n % 2].beat(&mut w), None);
    }
    assert!(clients[0].has.contains_key(&8));
}

#[test]
fn a_heartbeat_that_changes_nothing_looks_at_nothing_and_is_a_sign_of_life() {
    let mut w = world();
    let mut a = Client::new("a");
    assert_eq!(a.join(&mut w, &["t"]), None);
    assert_eq!(a.beat(&mut w), None);
    let looked_up = w.topics.looked_up.get();
    for _ in 0..3 {
        w.pass(40_000);
        let response = w.consumer_beat(a.request());
        assert_eq!((error(response.error_code), response.member_epoch), (None, a.epoch));
        assert_eq!(response.member_id.as_deref(), Some("a"));
        assert_eq!((response.heartbeat_interval_ms, given(&response)), (5_000, None));
    }
    // Who says everything is told everything.
    let mut full = a.joining(&["t"]);
    (full.member_epoch, full.topic_partitions) = (a.epoch, Some(owned(&a.has)));
    assert_eq!(given(&w.consumer_beat(full.clone())), Some(a.has.clone()));
    assert_eq!(w.topics.looked_up.get(), looked_up);
    // Whatever is not as before counts: what it reads, its epoch, its topics.
    full.subscribed_topic_names = Some(vec![text("u").into()]);
    let response = w.consumer_beat(full);
    assert_eq!((response.member_epoch, error(response.error_code)), (a.epoch, None), "it has to give t up first");
    assert_eq!(given(&response), Some(Given::new()));
    assert_eq!(a.take(response), None);
    assert_eq!(a.beat(&mut w), None);
    assert_eq!((a.epoch, a.has.keys().copied().collect::<Vec<_>>()), (2, vec![2]));
    assert_eq!(a.beat(&mut w), None);
    let mut ahead = Client { epoch: 3, ..Client::new("a") };
    assert_eq!(ahead.beat(&mut w), Some(FencedMemberEpoch));
    w.topics.put("u", 2, 3);
    assert_eq!(a.beat(&mut w), None);
    assert_eq!((a.epoch, a.count()), (3, 3));
    // An instance is another's, even if the id is known.
    let mut fenced = a.request();
    fenced.instance_id = Some(text("i"));
    assert_eq!(error(w.consumer_beat(fenced).error_code), Some(UnknownMemberId));
}

#[test]
fn a_consumer_group_is_described() {
    let mut w = world();
    let mut a = Client::new("a");
    assert_eq!(a.join(&mut w, &["t"]), None);
    let token = w.ask(GroupRequest::ConsumerDescribe(vec!["g".into(), "h".into(), "".into()]));
    let Some(GroupResponse::ConsumerDescribe(groups)) = w.answers.get(&token) else { panic!("no answer") };
    let errors: Vec<_> = groups.iter().map(|g| error(g.error_code)).collect();
    assert_eq!(errors, [None, Some(GroupIdNotFound), Some(InvalidGroupId)]);
    let group = &groups[0];
    assert_eq!((&*group.group_state, group.group_epoch, &*group.assignor_name), ("Stable", 1, "uniform"));
    let member = &group.members[0];
    assert_eq!((&*member.member_id, member.member_epoch), ("a", 1));
    let row = &member.assignment.topic_partitions[0];
    assert_eq!((&**row.topic_name, row.partitions.len()), ("t", 4));
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(a.leave(&mut w, -1), None);
    let token = w.ask(GroupRequest::DeleteGroups(vec!["g".into()]));
    let Some(GroupResponse::DeleteGroups(rows)) = w.answers.get(&token) else { panic!("no answer") };
    assert_eq!(rows[0].error_code, 0);
    w.fail_over();
    assert_eq!(w.state(), "Dead");
}

fn subscriber(id: &str, topics: &[u128], before: &[(u128, &[i32])]) -> Subscriber {
    Subscriber {
        id: id.into(),
        instance: None,
        topics: topics.iter().map(|t| Uuid::from_u128(*t)).collect(),
        before: before.iter().map(|(t, ps)| (Uuid::from_u128(*t), ps.iter().copied().collect())).collect(),
    }
}

fn sizes(targets: &BTreeMap<String, Assignment>) -> Vec<usize> {
    targets.values().map(partitions).collect()
}

#[test]
fn uniform_moves_as_little_as_it_can() {
    let counts = BTreeMap::from([(Uuid::from_u128(1), 7)]);
    let members =
        [subscriber("a", &[1], &[(1, &[0, 1, 2, 3, 4, 5, 6])]), subscriber("b", &[1], &[]), subscriber("c", &[1], &[])];
    let targets = assign("uniform", &members, &counts);
    assert_eq!(sizes(&targets), [3, 2, 2]);
    // With the same members nothing moves.
    let again: Vec<_> = members.iter().map(|m| Subscriber { before: targets[&m.id].clone(), ..m.clone() }).collect();
    assert_eq!(assign("uniform", &again, &counts), targets);
    // One goes: the others keep what they have.
    let rest = assign("uniform", &again[1..], &counts);
    assert_eq!(sizes(&rest), [4, 3]);
    assert!(rest.iter().all(|(id, target)| is_subset(&targets[id], target)));
}

#[test]
fn uniform_balances_members_with_different_subscriptions() {
    let counts = BTreeMap::from([(Uuid::from_u128(1), 4), (Uuid::from_u128(2), 4)]);
    let members = [subscriber("a", &[1, 2], &[]), subscriber("b", &[1], &[]), subscriber("c", &[2, 3], &[])];
    let targets = assign("uniform", &members, &counts);
    assert_eq!(targets.values().map(partitions).sum::<usize>(), 8);
    let sizes = sizes(&targets);
    assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
    assert!(!targets["b"].contains_key(&Uuid::from_u128(2)), "not what it does not read");
}

#[test]
fn range_gives_the_same_range_of_each_topic() {
    let counts = BTreeMap::from([(Uuid::from_u128(1), 3), (Uuid::from_u128(2), 3)]);
    let mut members = [subscriber("a", &[1, 2], &[]), subscriber("b", &[1, 2], &[])];
    let targets = assign("range", &members, &counts);
    let expected = |ps: &[i32]| [1u128, 2].map(|t| (Uuid::from_u128(t), ps.iter().copied().collect())).into();
    assert_eq!(targets["a"], expected(&[0, 1]));
    assert_eq!(targets["b"], expected(&[2]));
    // A static member comes first, whatever its id.
    members[1].instance = Some("i".into());
    assert_eq!(assign("range", &members, &counts)["b"], expected(&[0, 1]));
}
