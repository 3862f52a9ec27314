"""The scenes, by the Python SDK itself, and by Scenes.java for the Java one. Each
must end as it should, with every call made once."""

import argparse
import shlex
import subprocess
import sys

import requests
from dtmcli import msg, saga, tcc, utils

from stand import Stand

PYTHON_SDK, JAVA_SDK = "Python: dtmcli 1.7.7.0 (PyPI)", "Java: io.github.dtm-labs:dtmcli-java 2.1.4 (Maven Central)"


class Python:
    """Each method is a scene, and returns the gid."""

    def __init__(self, dtm, bank):
        self.dtm, self.bank = dtm, bank

    def saga(self, second="/in"):
        gid = utils.gen_gid(self.dtm)
        s = saga.Saga(self.dtm, gid)
        s.add({"amount": 30}, self.bank + "/out", self.bank + "/out")
        s.add({"amount": 30}, self.bank + second, self.bank + second)
        s.trans_base.wait_result = True
        self.heard = heard(s.submit)
        return gid

    def saga_refused(self):
        return self.saga("/refuse")

    def message(self, local=lambda _: None):
        gid = utils.gen_gid(self.dtm)
        m = msg.Msg(self.dtm, gid)
        m.add({"amount": 30}, self.bank + "/in").add({"amount": 30}, self.bank + "/more").set_wait_result()
        self.heard = heard(lambda: m.do_and_submit(self.bank + "/asked", local))
        return gid

    def message_not_done(self):
        def local(_):
            raise utils.DTMFailureError("the account is empty")

        return self.message(local)

    def message_not_known(self):
        """The local transaction breaks; the SDK asks the branch itself, which says that it was done."""

        def local(_):
            raise ConnectionError("the database is gone")

        return self.message(local)

    def tcc(self, second="/in"):
        gid = utils.gen_gid(self.dtm)

        def tries(t):
            t.call_branch({"amount": 30}, *[self.bank + "/out"] * 3)
            t.call_branch({"amount": 30}, *[self.bank + second] * 3)

        self.heard = "success" if tcc.tcc_global_transaction(self.dtm, gid, tries) == gid else "failure"
        return gid

    def tcc_refused(self):
        return self.tcc("/refuse")


def heard(call):
    try:
        call()
        return "success"
    except utils.DTMFailureError:
        return "failure"
    except Exception as e:  # the SDK's own errors have no type
        return "error: %s" % e


# Scene: how it ends, what the client hears, and what the coordinator called, as branch and op.
PYTHON = {
    "saga": ("succeed", "success", "01 action, 02 action"),
    "saga_refused": ("failed", "failure", "01 action, 01 compensate, 02 action, 02 compensate"),
    "message": ("succeed", "success", "01 action, 02 action"),
    "message_not_done": ("failed", "failure", ""),
    "message_not_known": ("succeed", "error: the database is gone", "01 action, 02 action"),
    "tcc": ("succeed", "success", "01 confirm, 02 confirm"),
    "tcc_refused": ("failed", "failure", "01 cancel, 02 cancel"),
}
JAVA = {
    "saga": ("succeed", "success", "01 action, 02 action"),
    "saga_refused": ("failed", "failure", "01 action, 01 compensate, 02 action, 02 compensate"),
    "saga_concurrent": ("succeed", "success", "01 action, 02 action, 03 action"),
    "tcc": ("succeed", "success", "01 confirm, 02 confirm"),
    "tcc_refused": ("failed", "failure", "01 cancel, 02 cancel"),
}


def check(stand, sdk, scene, want, gid, said, record):
    status, client, calls = want
    stand.ends(gid, status)
    made = ", ".join(sorted(" ".join(c.split(" ")[:2]) for c in stand.calls[gid]))
    if made != calls or said != client:
        raise AssertionError("%s %s: the client heard %r, called were %s; want %r, %s" % (sdk, scene, said, made, client, calls))
    if record:
        stand.write(record, scene, sdk, gid, status, stand.take())
    print("%-62s %-18s %-30s %s" % (sdk, scene, said, made))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("coordinator", help="host:port of a node's HTTP side")
    p.add_argument("--java", type=shlex.split, help="the command that runs Scenes.java")
    p.add_argument("--record", help="directory to keep the exchanges in")
    args = p.parse_args()
    stand = Stand(args.coordinator)
    dtm, bank = "http://%s/api/dtmsvr" % stand.address, "http://" + stand.address
    keep = lambda name: args.record and "%s/%s" % (args.record, name)  # noqa: E731
    for scene, want in PYTHON.items():
        stand.take()
        client = Python(dtm, bank)
        gid = getattr(client, scene)()
        check(stand, PYTHON_SDK, scene, want, gid, client.heard, keep("python"))
    for scene, want in JAVA.items() if args.java else ():
        stand.take()
        run = subprocess.run([*args.java, stand.address, scene], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        try:
            gid, said = run.stdout.strip().splitlines()[-1].split(" ", 1)
        except (IndexError, ValueError):
            sys.exit("%s\n%s" % (run.stdout, run.stderr))
        check(stand, JAVA_SDK, scene, want, gid, said, keep("java"))


if __name__ == "__main__":
    assert requests  # the SDK needs it
    main()
