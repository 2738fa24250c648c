//! Records the part of the trace corpus that comes from a broker: three nodes in one process, a few produces and reads.
//! `cargo run -p bellwether-conformance --example record_one PROGRAM FILE`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use bellwether_conformance::client::{Acks, Client, ClientConfig, Producer, ProducerConfig};
use bytes::Bytes;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (program, file) = args.next().zip(args.next()).ok_or(anyhow::anyhow!("PROGRAM FILE"))?;
    let mut child = Command::new(program)
        .args(["broker", "--nodes", "3", "--listen", "127.0.0.1:0", "--test-timeouts", "--trace", &file])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    BufReader::new(child.stdout.take().ok_or(anyhow::anyhow!("no stdout"))?).read_line(&mut ready)?;
    let bootstrap = ready.split_whitespace().find_map(|w| w.strip_prefix("bootstrap=")).unwrap_or_default();
    let bootstrap: Vec<String> = bootstrap.split(',').map(String::from).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(talk(&bootstrap))?;
    // A clean stop, so that the trace has its end.
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
    child.wait()?;
    Ok(())
}

async fn talk(bootstrap: &[String]) -> anyhow::Result<()> {
    let client = Client::connect(bootstrap, ClientConfig::default()).await?;
    client.create_topic("recorded", 2, 3, &[("min.insync.replicas", "2")]).await?;
    let idempotent = ProducerConfig { repeat_every: 3, ..ProducerConfig::idempotent() };
    let configs = [idempotent, ProducerConfig::plain(Acks::One), ProducerConfig::plain(Acks::Zero)];
    for config in configs {
        let mut producer = Producer::new(&client, config);
        for i in 0..6 {
            let records = (0..=i % 3).map(|_| Bytes::from_static(b"record")).collect();
            let delivery = producer.send("recorded", i % 2, records).await;
            delivery.outcome().await?;
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for partition in 0..2 {
        client.read_all("recorded", partition).await?;
    }
    Ok(())
}
