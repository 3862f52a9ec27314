package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestBadCommandLines(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{"sevre", []string{`there is no command "sevre"`, "did you mean `quorate serve`?"}},
		{"tx shwo", []string{"did you mean `quorate tx show`?"}},
		{"cluster sttaus", []string{"did you mean `quorate cluster status`?"}},
		{"config sho", []string{"did you mean `quorate config show`?"}},
		{"serve --data-dri /x", []string{"unknown flag --data-dri", "did you mean --data-dir?"}},
		{"serve extra", []string{`unexpected argument "extra"`}},
		{"tx ls --sate active", []string{"did you mean --state?"}},
		{"tx ls -q", []string{"unknown flag -q"}},
		{"tx ls --state actve", []string{"--state actve: allowed are active, sealed"}},
		{"tx ls --mode sagga", []string{"allowed are two-phase, tcc, saga"}},
		{"tx ls --limit 0", []string{"--limit 0"}},
		{"tx ls --older-than -5s", []string{"negative"}},
		{"tx ls -o xml", []string{"-o xml: allowed are table, wide, json, jsonl, yaml"}},
		{"tx ls --timeout 0s", []string{"--timeout must be greater than zero"}},
		{"tx ls --timeout soon", []string{"invalid argument"}},
		{"tx show", []string{"GID|key:K is missing"}},
		{"tx show a b", []string{`unexpected argument "b"`}},
		{"tx commit x --wait long", []string{"--wait long"}},
		{"tx wait x --for ever", []string{"--for ever"}},
		{"tx rollback x --operator jane", []string{"--operator without --reason"}},
		{"tx resolve x --outcome committed --operator jane --reason y", []string{"--branch is missing"}},
		{"tx resolve x --branch 1 --operator jane --reason y", []string{"--outcome is missing"}},
		{"tx resolve x --branch 1 --outcome committed --reason y", []string{"--operator is missing"}},
		{"tx resolve x --branch 1 --outcome committed --operator jane", []string{"--reason is missing"}},
		{"tx resolve x --branch 1 --outcome lost --operator jane --reason y", []string{"--outcome lost: allowed are committed, rolled-back, mixed, hazard"}},
		{"tx resolve x --branch 1 --outcome gave-up --operator jane --reason y", []string{"--outcome gave-up: allowed are committed"}},
		{"tx stop x --reason y", []string{"--operator is missing"}},
		{"tx stop x --operator jane", []string{"--reason is missing"}},
		{"tx submit", []string{"FILE is missing"}},
		{"tx submit /none", []string{"/none"}},
		{"tx submit -", []string{"is no submit request"}},
		{"topic subscribe orders", []string{"ENDPOINT is missing"}},
		{"topic rm", []string{"TOPIC is missing"}},
		{"topic subscrib orders", []string{"did you mean `quorate topic subscribe`?"}},
		{"fence init", []string{"--dsn is missing"}},
		{"fence init --dsn redis://localhost", []string{"redis needs no table"}},
		{"fence init --dsn localhost", []string{"name it with --database"}},
		{"fence init --print", []string{"--database is missing"}},
		{"fence init --dsn file:x --database oracle", []string{`unknown database "oracle": want postgres, mysql or sqlite`}},
		{"fence init --dsn file:x --table a.b.c", []string{"want `name` or `schema.name`"}},
		{"bench", []string{"name a scenario: decide, submit, managed"}},
		{"bench decid", []string{`no scenario is named "decid"`}},
		{"bench decide -o yaml", []string{"bench prints table, wide, json or runs"}},
		{"bench decide --callers 0", []string{"--callers 0"}},
		{"bench decide --endpoints a:1 --tls-ca-file /none", []string{"/none"}},
		{"bench propose --endpoints a:1", []string{"propose runs on the floor's nodes"}},
		{"bench transfer --store oracle", []string{"--store oracle: want embedded, postgres or mysql"}},
		{"cluster add someid", []string{"--raft is missing"}},
		{"cluster transfer-leader a b", []string{`unexpected argument "b"`}},
		{"cluster promote", []string{"NODE is missing"}},
		{"dev --nodes 2", []string{"1, 3 or 5"}},
		{"dev --port 0", []string{"--port 0"}},
		{"version -o yaml", []string{"version prints table or json"}},
		{"completion csh", []string{`"csh" is no shell`}},
		{"completion", []string{"SHELL is missing"}},
		{"config show -o jsonl", []string{"-o jsonl"}},
		{"config check --profile fats", []string{"did you mean fast?"}},
		{"serve --bootstrap --join a:1", []string{"--bootstrap and --join are both given"}},
		{"serve --listen-grpc 0.0.0.0:36790", []string{"--advertise-grpc", "--insecure"}},
		{"serve --stuck-after 10", []string{`"10" has no unit`}},
		{"serve --tls-cert-file c", []string{"belong together"}},
		{"config check --tls-cert-file /none --tls-key-file /none", []string{"/none"}},
	} {
		t.Run(c.line, func(t *testing.T) {
			quorate(t, strings.Fields(c.line)...).want(t, exitUsage, c.want...)
		})
	}
}

func TestHelpVersionAndCompletion(t *testing.T) {
	quorate(t).want(t, exitOK, "Exit codes:", "quorate demo", "serve", "dev", "tx", "cluster")
	quorate(t, "tx").want(t, exitOK, "show", "resolve")
	quorate(t, "serve", "--help").want(t, exitOK, "--endpoint-allow", "[tx.endpoint_allow]", "--bootstrap")
	quorate(t, "version").want(t, exitOK, "quorate "+version)
	quorate(t, "version", "-o", "json").want(t, exitOK, `"version":"`+version+`"`)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		quorate(t, "completion", shell).want(t, exitOK, "quorate")
	}
}

// Every command says what it is for, and every flag too.
func TestEveryCommandAndFlagIsDescribed(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" && !cmd.Hidden {
			t.Errorf("%s has no description", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
}

func TestConfigShow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.yaml")
	if err := os.WriteFile(path, []byte("log:\n  level: warn\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("QUORATE_STUCK_AFTER", "90s")
	out := quorate(t, "config", "show", "--config", path, "--name", "n7").want(t, exitOK).stdout
	for _, want := range []string{
		"node.name n7 flag --name", "log.level warn file " + path + " info debug|info|warn|error",
		"tx.stuck_after 1m30s env QUORATE_STUCK_AFTER 5m duration", "listen.grpc 127.0.0.1:36790 default",
		"limits.transaction_timeout_default 30s replicated 30s duration", "limits.transaction_timeout_max 10m0s replicated",
		"limits.retention 30m0s", "limits.branches_per_transaction_max 256", "limits.branch_id_bytes_max 32",
		"limits.key_bytes_max 128", "limits.payload_bytes_max 65536", "limits.command_bytes_max 262144",
		"limits.active_transactions_max 1000000", "limits.retained_stubs_max 20000000",
		"session.heartbeat 1s profile default", "session.grace 5s", "participant.pinned_connections_max 64 constant",
		"storage.operation_timeout 10s",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("config show lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	quorate(t, "config", "show", "--profile", "fast", "-o", "wide").want(t, exitOK, "QUORATE_DATA_DIR", "300ms", "profile fast")
	quorate(t, "config", "show", "-o", "json").want(t, exitOK, `"key": "node.name"`, `"source": "default"`)
	quorate(t, "config", "show", "-o", "yaml").want(t, exitOK, "- key: node.name")
	quorate(t, "config", "check", "--config", path).want(t, exitOK, "the settings are good")
	t.Setenv("QUORATE_STUK_AFTER", "90s")
	quorate(t, "config", "show").want(t, exitUsage, "did you mean QUORATE_STUCK_AFTER?")
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("x"), exitError},
		{withCode(exitUnhealthy, errors.New("x")), exitUnhealthy},
		{fmt.Errorf("wrapped: %w", withCode(exitDenied, errors.New("x"))), exitDenied},
		{status.Error(codes.NotFound, "x"), exitNotFound},
		{status.Error(codes.Unavailable, "x"), exitUnreachable},
		{status.Error(codes.DeadlineExceeded, "x"), exitUnreachable},
		{status.Error(codes.InvalidArgument, "x"), exitUsage},
		{&callError{"y", status.Error(codes.FailedPrecondition, "x")}, exitRejected},
		{status.Error(codes.AlreadyExists, "x"), exitRejected},
		{status.Error(codes.ResourceExhausted, "x"), exitRejected},
		{status.Error(codes.PermissionDenied, "x"), exitDenied},
		{status.Error(codes.Unauthenticated, "x"), exitDenied},
		{status.Error(codes.Internal, "x"), exitError},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("exitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

func TestDescribeKeepsTheNodesWordsAndDropsTheFrame(t *testing.T) {
	s, err := status.New(codes.DeadlineExceeded, "the request may or may not have taken effect").WithDetails(&errdetails.ErrorInfo{
		Reason: "OUTCOME_UNKNOWN", Domain: "quorate", Metadata: map[string]string{"gid": "01JD"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "commit transaction 01JD: OUTCOME_UNKNOWN: the request may or may not have taken effect"
	if got := describe(&callError{"commit transaction 01JD", s.Err()}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := describe(errors.New("plain")); got != "plain" {
		t.Errorf("%q, want plain", got)
	}
}

func TestNobodyThere(t *testing.T) {
	quorate(t, "tx", "ls", "--endpoints", "127.0.0.1:1", "--timeout", "300ms").
		want(t, exitUnreachable, "no answer from 127.0.0.1:1", "quorate dev")
	quorate(t, "cluster", "status", "--endpoints", "", "--timeout", "300ms").want(t, exitError, "give --endpoints")
	quorate(t, "tx", "ls", "--tls-cert-file", "/none").want(t, exitError, "tls")
}
