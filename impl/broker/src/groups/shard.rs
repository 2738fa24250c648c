//! One coordinator: its machine under a lock, its task, and the effects that become IO.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bellwether_core::{
    Caller, GroupConfig, GroupCoordinator, GroupEffect, GroupRequest, GroupResponse, Millis, Moment, Rules, Token,
};
use bellwether_sync::Bell;
use bellwether_wire::coordinator::GroupRecord;
use bellwether_wire::{Batch, ResponseError, batch};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::broker::Broker;
use crate::clock::wall_ms;
use crate::replica::{Replica, token};

/// So much is read at once while loading.
const LOAD: usize = 1 << 20;

/// What a request gets, now or later.
pub(crate) enum Reply {
    Now(GroupResponse),
    Later(oneshot::Receiver<GroupResponse>),
}

pub(super) struct Shard {
    replica: Arc<Replica>,
    /// The leader epoch that this is the coordinator of.
    pub(super) epoch: i32,
    state: Mutex<State>,
    /// Rung when a timer is due sooner than the task thinks.
    sooner: Notify,
}

enum State {
    /// It answers, if only that it is still loading.
    Active(Box<GroupCoordinator>, HashMap<Token, oneshot::Sender<GroupResponse>>),
    /// It leads no more, or its log cannot be read.
    Over,
}

impl Shard {
    pub(super) fn new(replica: Arc<Replica>, epoch: i32, config: Arc<GroupConfig>, rules: Rules) -> Arc<Shard> {
        let machine = GroupCoordinator::new(config, rules, replica.tp, epoch);
        let state = State::Active(Box::new(machine), HashMap::new());
        Arc::new(Shard { replica, epoch, state: Mutex::new(state), sooner: Notify::new() })
    }

    pub(super) fn is_of(&self, replica: &Arc<Replica>) -> bool {
        Arc::ptr_eq(&self.replica, replica)
    }

    /// Takes a request in, or says why not.
    pub(super) fn ask(&self, broker: &Broker, caller: &Caller, request: GroupRequest) -> Reply {
        // A leader that has been replaced without knowing it answers nothing: it cannot commit anything either.
        if self.replica.leading() != Some(self.epoch) {
            return Reply::Now(request.refuse(ResponseError::NotCoordinator));
        }
        let state = &mut *self.state.lock();
        match state {
            State::Over => Reply::Now(request.refuse(ResponseError::NotCoordinator)),
            State::Active(machine, waiting) => {
                let token = token();
                let (sender, receiver) = oneshot::channel();
                waiting.insert(token, sender);
                self.step(broker, machine, waiting, |machine, at, fx| machine.request(at, token, caller, request, fx));
                Reply::Later(receiver)
            }
        }
    }

    /// The end of it: whoever waits is told.
    pub(super) fn resign(&self, broker: &Broker) {
        let state = &mut *self.state.lock();
        if let State::Active(machine, mut waiting) = std::mem::replace(state, State::Over) {
            let mut fx = Vec::new();
            machine.resign(&mut fx);
            for effect in fx {
                match effect {
                    GroupEffect::Reply { token, response } => {
                        if let Some(sender) = waiting.remove(&token) {
                            let _ = sender.send(response);
                        }
                    }
                    // While the lock is held, so that the next coordinator here comes after it.
                    GroupEffect::Trace(event) => broker.sink.record(broker.config.node_id, [event]),
                    GroupEffect::Append { .. } => {}
                }
            }
        }
        tracing::debug!(node = broker.config.node_id, tp = %self.replica.tp, "coordinator given up");
        self.sooner.notify_one();
    }

    /// Loads, and then tells the machine of the high watermark and of the time until it is over.
    pub(super) async fn run(self: Arc<Self>, broker: Arc<Broker>) {
        if let Err(error) = self.load(&broker).await {
            tracing::error!(tp = %self.replica.tp, error, "the coordinator cannot be loaded");
            *self.state.lock() = State::Over;
            return;
        }
        let bell = Arc::new(Bell::new());
        // Looked at when the bell hangs: an append may have moved it before.
        while let Some((_, _, high_watermark)) = self.replica.watch(self.epoch, Some(&bell)) {
            let Some(next) = self.catch_up(&broker, high_watermark) else { break };
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(broker.clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = bell.heard() => {}
                () = self.sooner.notified() => {}
                () = timer => {}
            }
        }
        self.resign(&broker);
    }

    /// What is due now; when the next timer is. None if it is over.
    fn catch_up(&self, broker: &Broker, high_watermark: i64) -> Option<Option<Millis>> {
        let state = &mut *self.state.lock();
        let State::Active(machine, waiting) = state else { return None };
        self.step(broker, machine, waiting, |machine, at, fx| machine.high_watermark(at, high_watermark, fx));
        // What comes due meanwhile is for the next time: requests are waiting for the lock.
        let now = broker.clock.now();
        while machine.next_timer().is_some_and(|due| due <= now) {
            let refused = self.step(broker, machine, waiting, |machine, at, fx| machine.tick(at, fx));
            if let Some(error) = refused {
                tracing::warn!(tp = %self.replica.tp, ?error, "what was due cannot be appended");
            }
        }
        Some(machine.next_timer())
    }

    async fn load(&self, broker: &Broker) -> Result<(), String> {
        let gone = || "it leads no more".to_string();
        let (mut at, end, _) = self.replica.watch(self.epoch, None).ok_or_else(gone)?;
        let began = broker.clock.now();
        while at < end {
            let batches = self.replica.read_own(at, end, LOAD)?;
            let Some(last) = batches.last() else { return Err(format!("nothing to read at offset {at}, below {end}")) };
            at = last.header.base_offset + i64::from(last.header.last_offset_delta) + 1;
            self.load_batches(&batches)?;
            tokio::task::yield_now().await;
        }
        self.activate(broker)?;
        tracing::debug!(tp = %self.replica.tp, end, ms = broker.clock.now() - began, "coordinator loaded");
        Ok(())
    }

    fn activate(&self, broker: &Broker) -> Result<(), String> {
        let gone = || "it leads no more".to_string();
        let (_, end, high_watermark) = self.replica.watch(self.epoch, None).ok_or_else(gone)?;
        let state = &mut *self.state.lock();
        let State::Active(machine, waiting) = state else { return Err(gone()) };
        self.step(broker, machine, waiting, |machine, at, fx| machine.loaded(at, end, high_watermark, fx));
        Ok(())
    }

    fn load_batches(&self, batches: &[Batch]) -> Result<(), String> {
        let state = &mut *self.state.lock();
        let State::Active(machine, _) = state else { return Err("it leads no more".to_string()) };
        for batch in batches {
            for record in records_of(batch)? {
                machine.load(record);
            }
        }
        Ok(())
    }

    /// Lets the machine take a step, and carries its effects out. Why an append was refused, if one was.
    fn step(
        &self,
        broker: &Broker,
        machine: &mut GroupCoordinator,
        waiting: &mut HashMap<Token, oneshot::Sender<GroupResponse>>,
        step: impl FnOnce(&mut GroupCoordinator, &Moment<'_>, &mut Vec<GroupEffect>),
    ) -> Option<ResponseError> {
        let image = broker.image.read();
        let at = Moment { now: broker.clock.now(), wall: wall_ms(), topics: &*image };
        let before = machine.next_timer();
        let mut fx = Vec::new();
        step(machine, &at, &mut fx);
        let mut queue = VecDeque::from(fx);
        let mut refused = None;
        while let Some(effect) = queue.pop_front() {
            match effect {
                GroupEffect::Reply { token, response } => {
                    if let Some(sender) = waiting.remove(&token) {
                        // The client may have gone.
                        let _ = sender.send(response);
                    }
                }
                GroupEffect::Trace(event) => broker.sink.record(broker.config.node_id, [event]),
                GroupEffect::Append { records } => {
                    let appended = self.append(broker, &at, records);
                    let mut fx = Vec::new();
                    machine.appended(&at, appended.map(|(end, _)| end), &mut fx);
                    match appended {
                        Ok((_, high_watermark)) => machine.high_watermark(&at, high_watermark, &mut fx),
                        Err(error) => refused = Some(error),
                    }
                    queue.extend(fx);
                }
            }
        }
        let after = machine.next_timer();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.sooner.notify_one();
        }
        refused
    }

    fn append(
        &self,
        broker: &Broker,
        at: &Moment<'_>,
        records: Vec<(Bytes, Option<Bytes>)>,
    ) -> Result<(i64, i64), ResponseError> {
        let records: Vec<_> = records.into_iter().map(|(key, value)| (Some(key), value, at.wall)).collect();
        let bytes = batch::build(&records, -1, -1, -1);
        if bytes.len() > broker.config.message_max_bytes {
            return Err(ResponseError::MessageTooLarge);
        }
        let header = batch::parse_header(&bytes).map_err(|_| ResponseError::UnknownServerError)?;
        self.replica.append_own(at.now, self.epoch, Batch { header, bytes })
    }
}

/// The records of a batch; a control batch has none that count here.
fn records_of(batch: &Batch) -> Result<Vec<GroupRecord>, String> {
    if batch.header.is_control() {
        return Ok(Vec::new());
    }
    let records = batch::records(batch).map_err(|e| e.to_string())?;
    let read = |record: batch::Record| {
        let key = record.key.ok_or("a record without a key")?;
        GroupRecord::decode(&key, record.value.as_ref()).map_err(|e| format!("offset {}: {e}", record.offset))
    };
    records.into_iter().map(read).collect()
}
