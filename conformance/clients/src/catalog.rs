//! Which clients there are: how each is installed and started, and what it can do.

/// How a client's program is made to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A Python program in `folder`, in an environment of its own with `requirements`.
    Python { folder: &'static str, requirements: &'static str },
    /// A JavaScript program in `folder`, beside a package.json and its lock.
    Node { folder: &'static str },
    /// A package of the module in tests/clients/go.
    Go { package: &'static str },
    /// The Maven project in tests/clients/java.
    Java,
    /// The command kcat behind a Python program that calls it.
    Kcat,
}

/// What a client promises for the records that it sends while a leader dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sends {
    /// With an idempotent producer: each record once, in order.
    Idempotent,
    /// It has none: each acknowledged record at least once; in order, since it has one request in flight.
    AtLeastOnce,
}

/// How the members of a group agree on who reads what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// JoinGroup and SyncGroup: a member decides.
    Classic,
    /// ConsumerGroupHeartbeat: the coordinator decides (KIP-848).
    Consumer,
}

impl Protocol {
    /// As `group.protocol` has it, and in another case ListGroups.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Classic => "classic",
            Protocol::Consumer => "consumer",
        }
    }
}

/// A client of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// Its name, and its row.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The compressions that it can write.
    pub(crate) compressions: &'static [&'static str],
    pub(crate) sends: Sends,
    /// It can send headers.
    pub(crate) headers: bool,
    /// Who reads its records back, if it cannot without a group.
    pub(crate) read_by: Option<&'static str>,
    /// The protocols in which it can be a member of a group.
    pub(crate) groups: &'static [Protocol],
    /// It says which commits were acknowledged.
    pub(crate) tells_commits: bool,
}

/// Who writes what the groups read.
pub(crate) const WRITER: &str = "confluent-kafka";

/// The groups of the gate, which has no time for all: each protocol, and a client of each language.
pub(crate) const GATE: &[(&str, Protocol)] = &[
    ("confluent-kafka", Protocol::Classic),
    ("confluent-kafka", Protocol::Consumer),
    ("aiokafka", Protocol::Classic),
    ("java", Protocol::Consumer),
    ("franz-go", Protocol::Consumer),
    ("kafkajs", Protocol::Classic),
];

/// Every compression of the table, in the order of its columns.
pub(crate) const COMPRESSIONS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];

const CLASSIC: &[Protocol] = &[Protocol::Classic];
const BOTH: &[Protocol] = &[Protocol::Classic, Protocol::Consumer];

const fn client(name: &'static str, kind: Kind) -> Client {
    Client {
        name,
        kind,
        compressions: COMPRESSIONS,
        sends: Sends::Idempotent,
        headers: true,
        read_by: None,
        groups: CLASSIC,
        tells_commits: true,
    }
}

const fn python(folder: &'static str, requirements: &'static str) -> Kind {
    Kind::Python { folder, requirements }
}

/// All clients, in the order of the rows.
pub(crate) const CLIENTS: &[Client] = &[
    Client { groups: BOTH, ..client("confluent-kafka", python("confluent", "requirements.txt")) },
    client("confluent-kafka-2.0.2", python("confluent", "requirements-2.0.2.txt")),
    client("kafka-python", python("kafka_python", "requirements.txt")),
    // It has no idempotent producer.
    Client {
        sends: Sends::AtLeastOnce,
        ..client("kafka-python-2.0.2", python("kafka_python", "requirements-2.0.2.txt"))
    },
    client("aiokafka", python("aiokafka", "requirements.txt")),
    Client { groups: BOTH, ..client("java", Kind::Java) },
    Client { groups: BOTH, ..client("franz-go", Kind::Go { package: "franz" }) },
    Client { tells_commits: false, ..client("sarama", Kind::Go { package: "sarama" }) },
    // Its plugins for lz4 and zstd are built against headers of Node.js that their installers download.
    Client {
        compressions: &["none", "gzip", "snappy"],
        read_by: Some("confluent-kafka"),
        ..client("kafkajs", Kind::Node { folder: "kafkajs" })
    },
    Client { groups: BOTH, ..client("platformatic", Kind::Node { folder: "platformatic" }) },
    Client { headers: false, groups: &[], ..client("kcat", Kind::Kcat) },
];

/// The client of this name.
pub(crate) fn named(name: &str) -> Option<&'static Client> {
    CLIENTS.iter().find(|client| client.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_readers_are_clients_that_read_by_themselves() {
        assert!(named(WRITER).is_some());
        assert!(GATE.iter().all(|(name, protocol)| named(name).is_some_and(|c| c.groups.contains(protocol))));
        for client in CLIENTS {
            assert_eq!(CLIENTS.iter().filter(|other| other.name == client.name).count(), 1, "{}", client.name);
            assert!(client.compressions.iter().all(|c| COMPRESSIONS.contains(c)), "{}", client.name);
            if let Some(reader) = client.read_by {
                assert!(named(reader).is_some_and(|reader| reader.read_by.is_none()), "{}", client.name);
            }
        }
    }
}
