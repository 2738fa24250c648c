"""kcat under the contract of ../README.md. It writes to one partition at a time, so there is a process for each.

KCAT names the command. It takes its records from lines: the key, a tab, the value.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import contract

KCAT = os.environ["KCAT"]
DELIVERED = re.compile(rb"Message delivered to partition (\d+) \(offset (-?\d+)\)")


def kcat(args, *more, **streams):
    return subprocess.Popen([KCAT, "-b", args.bootstrap, "-X", "reconnect.backoff.max.ms=200", *more], **streams)


def produce(args):
    idempotent = args.idempotence == "on"
    writers = [
        kcat(args, "-P", "-t", args.topic, "-p", str(partition), "-K", "\t", "-z", args.compression, "-vvv",
             "-X", "acks=all", "-X", "linger.ms=5", "-X", "message.timeout.ms=60000", "-X", "retry.backoff.ms=20",
             "-X", f"enable.idempotence={str(idempotent).lower()}",
             # Without idempotence a record that is sent again must not overtake another.
             *([] if idempotent else ["-X", "max.in.flight.requests.per.connection=1"]),
             stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for partition in range(args.partitions)
    ]
    lock = threading.Lock()

    def hear(partition, stderr):
        # Reports of one partition come in the order of its records.
        number = partition
        for line in stderr:
            delivered = DELIVERED.search(line)
            with lock:
                if delivered:
                    contract.tell("acknowledged", number, int(delivered[1]), int(delivered[2]))
                    sys.stdout.flush()
                    number += args.partitions
                elif not line.startswith(b"%"):
                    sys.stderr.buffer.write(line)

    hearing = [threading.Thread(target=hear, args=(i, writer.stderr)) for i, writer in enumerate(writers)]
    for thread in hearing:
        thread.start()
    # kcat looks for reports only when it has read a record: if all came at once, there would be none at the gate.
    pace = contract.Pace(args, even=True)
    for record in contract.records(args):
        while (ahead := pace.ahead(record.number)) > 0:
            for writer in writers:
                writer.stdin.flush()
            time.sleep(ahead)
        writers[record.partition].stdin.write(record.key + b"\t" + record.value + b"\n")
    for writer in writers:
        writer.stdin.close()
    for thread in hearing:
        thread.join()
    codes = [writer.wait() for writer in writers]
    if any(codes):
        sys.exit(f"kcat ended with {codes}")


def consume(args):
    told = contract.until_told()
    # It lists the topic and its partitions, and asks where they begin and end.
    listed = json.loads(subprocess.check_output([KCAT, "-b", args.bootstrap, "-L", "-J", "-t", args.topic]))
    partitions = [p["partition"] for topic in listed["topics"] if topic["topic"] == args.topic
                  for p in topic["partitions"]]
    for partition in sorted(partitions):
        ends = []
        for at in (-2, -1):
            said = subprocess.check_output([KCAT, "-b", args.bootstrap, "-Q", "-t", f"{args.topic}:{partition}:{at}"])
            ends.append(int(re.search(rb"offset (-?\d+)", said)[1]))
        contract.in_range(partition, *ends)
    reader = kcat(args, "-C", "-t", args.topic, "-o", "beginning", "-J", "-u", "-q", "-X", "fetch.wait.max.ms=50",
                  stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    threading.Thread(target=lambda: (told.wait(), reader.terminate()), daemon=True).start()
    for line in reader.stdout:
        message = json.loads(line)
        flat = message.get("headers", [])
        headers = [(name, value.encode()) for name, value in zip(flat[::2], flat[1::2])]
        contract.read(message["partition"], message["offset"], message["key"].encode(), message["payload"].encode(),
                      headers)
        sys.stdout.flush()
    reader.wait()
    if not told.is_set():
        sys.exit(f"kcat ended with {reader.returncode}")


def main():
    args = contract.arguments()
    said = subprocess.run([KCAT, "-V"], capture_output=True, text=True).stdout
    found = re.search(r"Version (\S+).*librdkafka (\S+)", said)
    contract.tell("versions", f"kcat {found[1]}, librdkafka {found[2]}")
    produce(args) if args.mode == "produce" else consume(args)
    contract.finish()


main()
