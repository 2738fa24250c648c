//! The producer: one lane a partition, each with its own sequence, so that a failure stays where it happened.
//!
//! A lane keeps up to `in_flight` requests on their way. When one fails with a retriable error, the lane waits for the
//! answers of those behind it and sends all that failed again, in their order and with the same sequences: what Kafka's
//! own producer does (KIP-98). A batch that is given up leaves a sequence of which nobody knows whether it arrived, so
//! the lane goes on with a new producer id.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bellwether_wire::batch;
use bellwether_wire::{ResponseError, ResponseKind};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::{Connection, Reply};
use super::produce::{self, Acks};
use super::{Client, ClientError};

/// How a producer sends.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`; needs [`Acks::All`] and at most five in flight, as in Kafka.
    pub idempotent: bool,
    /// `max.in.flight.requests.per.connection`, here per partition; at least 1.
    pub in_flight: usize,
    /// How long a broker may take to answer; the request carries it too.
    pub request_timeout: Duration,
    /// How long a batch is tried again until it is given up.
    pub delivery_timeout: Duration,
    /// The pause before batches are sent again.
    pub retry_backoff: Duration,
    /// Every so many batches one is sent twice in a row, as by a producer whose answer got lost; 0 for never. Both
    /// requests must get the same answer, so this is for idempotent producers.
    pub repeat_every: u32,
}

impl ProducerConfig {
    /// acks=all and idempotent, five in flight: Kafka's defaults, with timeouts for checks.
    pub fn idempotent() -> ProducerConfig {
        ProducerConfig {
            acks: Acks::All,
            idempotent: true,
            in_flight: 5,
            request_timeout: Duration::from_secs(5),
            delivery_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(20),
            repeat_every: 0,
        }
    }

    /// Without idempotence.
    pub fn plain(acks: Acks) -> ProducerConfig {
        ProducerConfig { acks, idempotent: false, ..ProducerConfig::idempotent() }
    }
}

/// A batch that was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// The offset of its first record, if the broker told one.
    pub base_offset: Option<i64>,
    /// How many times it was sent.
    pub attempts: u32,
}

/// The outcome of a send, once it is there.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<Delivered, ClientError>>);

impl Delivery {
    /// Waits for the outcome. An error says nothing of whether the records are in the log.
    pub async fn outcome(self) -> Result<Delivered, ClientError> {
        self.0.await.unwrap_or_else(|_| Err(ClientError::Abandoned("the producer was dropped".into())))
    }
}

/// A producer. Dropping it gives up what is on its way.
pub struct Producer {
    client: Client,
    config: ProducerConfig,
    lanes: HashMap<(String, i32), LaneHandle>,
}

struct LaneHandle {
    queue: mpsc::Sender<Box<Batch>>,
    task: JoinHandle<()>,
    batches: u32,
}

impl Drop for Producer {
    fn drop(&mut self) {
        for lane in self.lanes.values() {
            lane.task.abort();
        }
    }
}

struct Batch {
    values: Vec<Bytes>,
    done: oneshot::Sender<Result<Delivered, ClientError>>,
    deadline: Instant,
    attempts: u32,
    /// The encoded batch, with its sequence; from the first try on.
    bytes: Option<Bytes>,
    /// Is it to be sent twice?
    repeat: bool,
}

impl Producer {
    /// A producer of this cluster.
    pub fn new(client: &Client, config: ProducerConfig) -> Producer {
        Producer { client: client.clone(), config, lanes: HashMap::new() }
    }

    /// Sends records as one batch, after those sent to this partition before. Returns as soon as there is room on the
    /// way to the partition.
    pub async fn send(&mut self, topic: &str, partition: i32, values: Vec<Bytes>) -> Delivery {
        let (done, receiver) = oneshot::channel();
        let lane = self.lanes.entry((topic.to_owned(), partition)).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(self.config.in_flight.max(1));
            let lane = Lane {
                client: self.client.clone(),
                config: self.config.clone(),
                topic: topic.to_owned(),
                partition,
                id: None,
                sequence: 0,
                known: false,
                waiting: VecDeque::new(),
                flying: VecDeque::new(),
                connection: None,
            };
            LaneHandle { queue: sender, task: tokio::spawn(lane.run(receiver)), batches: 0 }
        });
        lane.batches = lane.batches.wrapping_add(1);
        let repeat = self.config.repeat_every != 0 && lane.batches.is_multiple_of(self.config.repeat_every);
        let deadline = Instant::now() + self.config.delivery_timeout;
        // A lane ends only with its producer; if it did, the dropped `done` says so to whoever waits.
        let _ = lane.queue.send(Box::new(Batch { values, done, deadline, attempts: 0, bytes: None, repeat })).await;
        Delivery(receiver)
    }
}

/// A batch on its way, with the answers that are due: one, or two if it was sent twice.
struct Flight {
    batch: Box<Batch>,
    replies: VecDeque<Reply>,
    /// What the first of two requests got.
    first: Option<Result<ResponseKind, ClientError>>,
}

/// A batch that was not acknowledged, and why.
type Failed = (Box<Batch>, ClientError);

struct Lane {
    client: Client,
    config: ProducerConfig,
    topic: String,
    partition: i32,
    /// Producer id and epoch, if idempotent and asked for already.
    id: Option<(i64, i16)>,
    sequence: i32,
    /// Has a batch of this id been acknowledged?
    known: bool,
    waiting: VecDeque<Box<Batch>>,
    flying: VecDeque<Flight>,
    /// Where those on their way were sent.
    connection: Option<Arc<Connection>>,
}

impl Lane {
    async fn run(mut self, mut queue: mpsc::Receiver<Box<Batch>>) {
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.flying.is_empty() {
            if self.flying.len() < self.in_flight()
                && let Some(batch) = self.waiting.pop_front()
            {
                if let Err(failed) = self.transmit(batch).await {
                    self.recover(None, Some(failed)).await;
                }
                continue;
            }
            let room = open && self.waiting.is_empty() && self.flying.len() < self.in_flight();
            tokio::select! {
                answer = Self::first_answer(&mut self.flying, self.config.request_timeout), if !self.flying.is_empty() => {
                    if let Some((batch, outcome)) = answer
                        && let Err(failed) = self.settle(batch, outcome)
                    {
                        self.recover(Some(failed), None).await;
                    }
                }
                batch = queue.recv(), if room => match batch {
                    Some(batch) => self.waiting.push_back(batch),
                    None => open = false,
                },
            }
        }
    }

    /// How many may be on their way. A broker that does not know a producer takes any sequence as its first, so the first
    /// batch of an id goes alone: the second must not arrive where the first is refused, and be taken there.
    fn in_flight(&self) -> usize {
        if self.config.idempotent && !self.known { 1 } else { self.config.in_flight.max(1) }
    }

    /// The answer to the oldest batch on its way. It stays in its place until the answer is there, so that a select may
    /// drop this future.
    async fn first_answer(
        flying: &mut VecDeque<Flight>,
        timeout: Duration,
    ) -> Option<(Box<Batch>, Result<ResponseKind, ClientError>)> {
        let flight = flying.front_mut()?;
        while let Some(reply) = flight.replies.front_mut() {
            let outcome = reply.within(timeout).await;
            flight.replies.pop_front();
            flight.first = Some(match flight.first.take() {
                Some(first) => Self::both(first, outcome),
                None => outcome,
            });
        }
        let flight = flying.pop_front()?;
        let none = || Err(ClientError::Incomplete("Produce".into()));
        Some((flight.batch, flight.first.unwrap_or_else(none)))
    }

    /// The outcome of a batch that was sent twice: the worse answer of the two. If both were taken, they must have been
    /// taken as one.
    fn both(
        first: Result<ResponseKind, ClientError>,
        second: Result<ResponseKind, ClientError>,
    ) -> Result<ResponseKind, ClientError> {
        let verdict = |answer: &ResponseKind| match answer {
            ResponseKind::Produce(answer) => {
                let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
                partitions.next().map(|partition| (partition.error_code, partition.base_offset))
            }
            _ => None,
        };
        let (first, second) = (first?, second?);
        match (verdict(&first), verdict(&second)) {
            (Some((0, one)), Some((0, other))) if one != other => Err(ClientError::Twice { first: one, second: other }),
            (Some((0, _)), Some(_)) => Ok(second),
            _ => Ok(first),
        }
    }

    /// Sends a batch, with the sequence that it has or gets now.
    async fn transmit(&mut self, mut batch: Box<Batch>) -> Result<(), Failed> {
        let bytes = match &batch.bytes {
            Some(bytes) => bytes.clone(),
            None => match self.encode(&batch.values).await {
                Ok(bytes) => batch.bytes.insert(bytes).clone(),
                Err(error) => return Err((batch, error)),
            },
        };
        let config = &self.config;
        let request = produce::request(&self.topic, self.partition, config.acks, config.request_timeout, bytes);
        let connection = match self.client.leader(&self.topic, self.partition).await {
            Ok((connection, _)) => connection,
            Err(error) => return Err((batch, error)),
        };
        // What is on its way elsewhere may fail yet, and must not be overtaken.
        if !self.flying.is_empty() && !self.connection.as_ref().is_some_and(|at| Arc::ptr_eq(at, &connection)) {
            let why = "the leader moved while earlier batches were on their way".to_owned();
            return Err((batch, ClientError::Connection { address: connection.address().to_owned(), why }));
        }
        self.connection = Some(connection.clone());
        batch.attempts += 1;
        if self.config.acks == Acks::Zero {
            return match connection.send_unanswered(request.into()) {
                Ok(()) => {
                    let _ = batch.done.send(Ok(Delivered { base_offset: None, attempts: batch.attempts }));
                    Ok(())
                }
                Err(error) => Err((batch, error)),
            };
        }
        let mut replies = VecDeque::new();
        for _ in 0..if batch.repeat { 2 } else { 1 } {
            match connection.send(request.clone().into()) {
                Ok(reply) => replies.push_back(reply),
                Err(error) => return Err((batch, error)),
            }
        }
        self.flying.push_back(Flight { batch, replies, first: None });
        Ok(())
    }

    async fn encode(&mut self, values: &[Bytes]) -> Result<Bytes, ClientError> {
        let (id, epoch, sequence) = match self.id {
            _ if !self.config.idempotent => (batch::NO_PRODUCER_ID, -1, -1),
            Some((id, epoch)) => (id, epoch, self.sequence),
            None => {
                let (id, epoch) = self.client.init_producer_id().await?;
                self.id = Some((id, epoch));
                self.sequence = 0;
                (id, epoch, 0)
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let records: Vec<_> = values.iter().map(|value| (None, Some(value.clone()), now)).collect();
        let bytes = batch::build(&records, id, epoch, sequence);
        // Sequences wrap to 0 after i32::MAX, as in DefaultRecordBatch.incrementSequence.
        let next = (i64::from(sequence) + values.len() as i64) & i64::from(i32::MAX);
        self.sequence = i32::try_from(next).unwrap_or(0);
        Ok(bytes)
    }

    /// Tells the sender if it worked; gives the batch back if it did not.
    fn settle(&mut self, batch: Box<Batch>, answer: Result<ResponseKind, ClientError>) -> Result<(), Failed> {
        let outcome = answer.and_then(|answer| produce::outcome(answer, &self.topic, self.partition));
        let base_offset = match outcome {
            Ok(base_offset) => base_offset,
            Err(error) => return Err((batch, error)),
        };
        self.known = true;
        // Whoever sent it may have gone away.
        let _ = batch.done.send(Ok(Delivered { base_offset, attempts: batch.attempts }));
        Ok(())
    }

    /// After a failure: waits for what is still on its way, then puts all that failed back in front, in the order of their
    /// sequences: the oldest, whose answer came; what was on its way behind it; the newest, which could not be sent.
    async fn recover(&mut self, oldest: Option<Failed>, newest: Option<Failed>) {
        let mut failed = Vec::from_iter(oldest);
        while let Some((batch, answer)) = Self::first_answer(&mut self.flying, self.config.request_timeout).await {
            failed.extend(self.settle(batch, answer).err());
        }
        failed.extend(newest);
        let now = Instant::now();
        let mut retried = VecDeque::new();
        let mut given_up: Option<ClientError> = None;
        for (index, (batch, error)) in failed.into_iter().enumerate() {
            // A gap before this batch: the one before it failed, and goes first again.
            let gap = self.config.idempotent
                && index > 0
                && error.broker_error() == Some(ResponseError::OutOfOrderSequenceNumber);
            if given_up.is_none() && (error.is_retriable() || gap) && now < batch.deadline {
                retried.push_back(batch);
                continue;
            }
            if self.config.idempotent && given_up.is_none() {
                given_up = Some(error.clone());
            }
            let _ = batch.done.send(Err(error));
        }
        if let Some(error) = given_up {
            self.renounce(&mut retried, &error);
        }
        retried.append(&mut self.waiting);
        self.waiting = retried;
        // Its own error is of no interest: the next try shows whether it helped.
        let _ = self.client.refresh(&[&self.topic]).await;
        tokio::time::sleep(self.config.retry_backoff).await;
    }

    /// A sequence is lost for good. What was sent with this producer id may be in the log or not and is given up too;
    /// what was never sent goes on with a new id.
    fn renounce(&mut self, retried: &mut VecDeque<Box<Batch>>, error: &ClientError) {
        self.id = None;
        self.known = false;
        let (sent, fresh) = retried.drain(..).chain(self.waiting.drain(..)).partition(|batch| batch.bytes.is_some());
        self.waiting = fresh;
        let sent: VecDeque<Box<Batch>> = sent;
        for batch in sent {
            let _ = batch.done.send(Err(ClientError::Abandoned(error.to_string())));
        }
    }
}
