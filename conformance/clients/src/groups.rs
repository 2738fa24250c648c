//! One client as the members of a group: they come, one is killed, and so is their coordinator, while records are written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bellwether_conformance::client::{Client as Looker, ClientConfig, LATEST};
use bellwether_conformance::cluster::Cluster;
use tokio::task::JoinHandle;

use crate::catalog::{Client, Protocol};
use crate::group_judge::{Counts, Told, Watched, judge};
use crate::install::Installed;
use crate::program::Program;
use crate::story::{Records, Story};

/// How long a member may be silent. Kafka's default is 45 s; a member that is killed is missed only then.
pub(crate) const SESSION: Duration = Duration::from_secs(3);

/// What happens in a run, in this order.
pub(crate) const STEPS: &[&str] =
    &["two members share", "a third joins", "one is killed", "another joins", "the coordinator is killed"];

/// What a run needs.
pub(crate) struct Group<'a> {
    pub(crate) client: &'static Client,
    pub(crate) protocol: Protocol,
    pub(crate) member: &'a Installed,
    pub(crate) writer: &'a Installed,
    pub(crate) records: Arc<Records>,
    /// The file with the values, and bytes of each.
    pub(crate) values: &'a Path,
    pub(crate) size: usize,
    /// Where the standard error of the programs goes.
    pub(crate) logs: PathBuf,
    /// Two thirds of the records are written in so many seconds; but what is left of them at once, when the coordinator is
    /// to be killed.
    pub(crate) before: f64,
    /// The last third takes so long.
    pub(crate) seconds: f64,
    /// Waiting for anything takes no longer than this.
    pub(crate) patience: Duration,
}

/// What a run has shown so far; of use even if it ends early.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) versions: String,
    /// How long each of [`STEPS`] took until the members had told that they share all partitions, or, at last, until
    /// every partition had a newer committed offset.
    pub(crate) took: Vec<Duration>,
}

const TOPIC: &str = "records";
const GROUP: &str = "readers";

impl Group<'_> {
    /// Runs all steps on this cluster.
    pub(crate) async fn run(&self, cluster: &mut Cluster, shown: &mut Shown) -> anyhow::Result<Counts> {
        let looker = Looker::connect(&cluster.bootstrap(), ClientConfig::default()).await?;
        let config = [("min.insync.replicas", "2")];
        looker.create_topic(TOPIC, self.records.partitions, 3, &config).await?;
        let whole = |t: &bellwether_conformance::client::Topic| t.partitions.values().all(|p| p.isr.len() == 3);
        looker.wait_for_topic(TOPIC, self.patience, whole).await?;
        let mut members = Members {
            group: self,
            bootstrap: cluster.bootstrap().join(","),
            alive: Vec::new(),
            killed: None,
            watch: Watch::start(&cluster.bootstrap(), self.records.partitions).await?,
        };

        members.join()?;
        members.join()?;
        shown.took.push(members.shared().await?);
        // From now on, since some clients take long to start.
        let mut writer = self.write(&members.bootstrap)?;
        shown.versions = members.alive.first().map(|(_, m)| m.story().versions.clone()).unwrap_or_default();
        let protocol = looker.group_type(GROUP).await?;
        let as_asked = protocol.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(self.protocol.name()));
        ensure!(as_asked, "the group's protocol is {protocol:?}");
        members.join()?;
        shown.took.push(members.shared().await?);
        members.kill_one().await?;
        shown.took.push(members.shared().await?);
        members.join()?;
        shown.took.push(members.shared().await?);

        writer.open_gate();
        let written = writer.story().acknowledged.len();
        let coordinator = looker.coordinator(GROUP).await?;
        let before = members.watch.see().committed.clone();
        cluster.kill(coordinator)?;
        ensure!(written < self.records.count(), "all was written before the coordinator was killed");
        let on = |m: &mut Members<'_>| {
            let watched = m.watch.see();
            (0..m.group.records.partitions).all(|p| watched.committed.get(&p) > before.get(&p))
        };
        shown.took.push(members.wait("the next coordinator takes no commits", on).await?);
        cluster.restart(coordinator).await?;

        writer.finish(self.patience).await.context("the producer")?;
        ensure!(writer.story().failed.is_empty(), "the producer: {:?}", writer.story().failed);
        let mut ends = BTreeMap::new();
        for partition in 0..self.records.partitions {
            ends.insert(partition, looker.list_offset(TOPIC, partition, LATEST).await?);
        }
        let expected = ends.clone();
        members.wait("not all is committed", |m| m.watch.see().committed == expected).await?;
        members.finish(&looker, &ends).await
    }

    fn start(&self, installed: &Installed, name: &str, more: Vec<(&str, String)>, to: &str) -> anyhow::Result<Program> {
        let mut arguments = Vec::new();
        let common = [
            ("bootstrap", to.to_string()),
            ("topic", TOPIC.to_string()),
            ("partitions", self.records.partitions.to_string()),
        ];
        for (name, value) in common.into_iter().chain(more) {
            arguments.extend([format!("--{name}"), value]);
        }
        Program::start(installed, &arguments, &self.logs.join(format!("{name}.log")), &self.records, true)
    }

    /// The writer of another client: whom the members read from is not their concern.
    fn write(&self, bootstrap: &str) -> anyhow::Result<Program> {
        let count = self.records.count();
        let more = vec![
            ("mode", "produce".to_string()),
            ("records", count.to_string()),
            ("values", self.values.display().to_string()),
            ("size", self.size.to_string()),
            ("idempotence", "on".to_string()),
            ("gate", (count * 2 / 3).to_string()),
            ("seconds", self.seconds.to_string()),
            ("before", self.before.to_string()),
        ];
        self.start(self.writer, "writer", more, bootstrap)
    }
}

/// The processes of a group.
struct Members<'a> {
    group: &'a Group<'a>,
    bootstrap: String,
    /// With the number of each.
    alive: Vec<(usize, Program)>,
    killed: Option<(usize, Program)>,
    watch: Watch,
}

impl Members<'_> {
    fn join(&mut self) -> anyhow::Result<()> {
        let number = 1 + self.alive.len() + usize::from(self.killed.is_some());
        let group = self.group;
        let more = vec![
            ("mode", "member".to_string()),
            ("group", GROUP.to_string()),
            ("protocol", group.protocol.name().to_string()),
            ("session", SESSION.as_millis().to_string()),
        ];
        let member = group.start(group.member, &format!("member-{number}"), more, &self.bootstrap)?;
        self.watch.listen_to(member.told());
        self.alive.push((number, member));
        Ok(())
    }

    /// Waits until each partition has one owner, and no member has more than its part.
    async fn shared(&mut self) -> anyhow::Result<Duration> {
        let shared = |m: &mut Members<'_>| {
            let partitions = m.group.records.partitions as usize;
            let most = partitions.div_ceil(m.alive.len());
            let mut owned: Vec<i32> = Vec::new();
            for (_, member) in &m.alive {
                let story = member.story();
                if story.assigned.len() > most {
                    return false;
                }
                owned.extend(&story.assigned);
            }
            owned.sort_unstable();
            owned.into_iter().eq(0..m.group.records.partitions)
        };
        let took = self.wait("the partitions are not shared", shared).await;
        took.with_context(|| {
            let has = |(number, member): &(usize, Program)| format!("{number}: {:?}", member.story().assigned);
            self.alive.iter().map(has).collect::<Vec<_>>().join(", ")
        })
    }

    /// Kills the first member at its work: when it has just processed a record.
    async fn kill_one(&mut self) -> anyhow::Result<()> {
        let read = |m: &Members<'_>| m.alive.first().map_or(0, |(_, member)| member.story().reads.len());
        let before = read(self);
        self.wait("the member that is to be killed processes nothing", |m| read(m) > before).await?;
        let (number, mut member) = self.alive.remove(0);
        member.kill().with_context(|| format!("member {number}"))?;
        self.killed = Some((number, member));
        Ok(())
    }

    /// Waits for something, and for nothing if a member has ended.
    async fn wait(&mut self, why: &str, mut reached: impl FnMut(&mut Self) -> bool) -> anyhow::Result<Duration> {
        let began = Instant::now();
        while !reached(self) {
            for (number, member) in &mut self.alive {
                if let Some(status) = member.ended() {
                    bail!("member {number} ended with {status}: {}", member.last_words());
                }
            }
            if began.elapsed() > self.group.patience {
                let said = |(n, m): &(usize, Program)| format!("{n}: {}", m.last_words());
                let said: Vec<String> = self.alive.iter().map(said).collect();
                bail!("{why} after {} s; {}", began.elapsed().as_secs(), said.join("; "));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(began.elapsed())
    }

    /// Lets all members go, and judges.
    async fn finish(mut self, looker: &Looker, ends: &BTreeMap<i32, i64>) -> anyhow::Result<Counts> {
        for (_, member) in &mut self.alive {
            member.release();
        }
        for (number, member) in &mut self.alive {
            member.finish(self.group.patience).await.with_context(|| format!("member {number}"))?;
        }
        self.watch.look(looker, self.group.records.partitions).await?;
        let watched = self.watch.see();
        let all: Vec<(String, bool, MutexGuard<'_, Story>)> = (self.killed.iter().map(|member| (member, true)))
            .chain(self.alive.iter().map(|member| (member, false)))
            .map(|((number, member), killed)| (format!("member {number}"), killed, member.story()))
            .collect();
        let told: Vec<Told<'_>> =
            all.iter().map(|(name, killed, story)| Told { name, story, killed: *killed }).collect();
        let counts = judge(&self.group.records, ends, &told, &watched).map_err(anyhow::Error::msg)?;
        let tells = self.group.client.tells_commits;
        ensure!(tells == (counts.commits > 0), "{} commits were told", counts.commits);
        Ok(counts)
    }
}

type Stories = Arc<Mutex<Vec<Arc<Mutex<Story>>>>>;

/// Looks at the committed offsets all the time, from outside of the group.
struct Watch {
    watched: Arc<Mutex<Watched>>,
    stories: Stories,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    async fn start(bootstrap: &[String], partitions: i32) -> anyhow::Result<Watch> {
        let config = ClientConfig { patience: Duration::from_secs(1), ..ClientConfig::default() };
        let looker = Looker::connect(bootstrap, config).await?;
        let (watched, stories) = (Arc::new(Mutex::new(Watched::default())), Stories::default());
        let (into, of) = (watched.clone(), stories.clone());
        let task = tokio::spawn(async move {
            loop {
                // A coordinator that is gone, or that still loads, is asked again.
                if let Err(why) = look(&looker, partitions, &of, &into).await
                    && !why.is_retriable()
                {
                    lock(&into).wrong.get_or_insert(format!("{why}"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(Watch { watched, stories, task })
    }

    fn listen_to(&self, story: Arc<Mutex<Story>>) {
        lock(&self.stories).push(story);
    }

    fn see(&self) -> MutexGuard<'_, Watched> {
        lock(&self.watched)
    }

    /// Looks once more, and then not again.
    async fn look(&self, looker: &Looker, partitions: i32) -> anyhow::Result<()> {
        self.task.abort();
        Ok(look(looker, partitions, &self.stories, &self.watched).await?)
    }
}

async fn look(
    looker: &Looker,
    partitions: i32,
    stories: &Stories,
    watched: &Mutex<Watched>,
) -> Result<(), bellwether_conformance::client::ClientError> {
    let mut acknowledged = BTreeMap::new();
    for story in lock(stories).iter() {
        for (partition, offset) in &lock(story).committed {
            let highest = acknowledged.entry(*partition).or_insert(*offset);
            *highest = (*highest).max(*offset);
        }
    }
    let found = looker.committed(GROUP, TOPIC, partitions).await?;
    lock(watched).see(&acknowledged, found);
    Ok(())
}
