// Command dtm runs DTM's own Go client, unchanged, against a Quorate cluster of
// three processes: saga, TCC, XA, message and workflow, over HTTP and gRPC, always
// through a node that does not lead, and each across the SIGKILL of the leader.
//
// Effects are rows in Postgres, written within DTM's barrier (or the XA branch)
// and counted at the end of each transaction: each must be there exactly once,
// or not at all. It exits with 1 when anything is not as it must be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/logger"
)

func main() {
	quorate := flag.String("quorate", "quorate", "the quorate binary")
	postgres := flag.String("postgres", os.Getenv("QUORATE_TEST_POSTGRES"), "DSN of a Postgres with max_prepared_transactions above 0")
	only := flag.String("only", "", "run only what holds this text, such as saga or gRPC")
	quick := flag.Bool("quick", false, "leave out what is refused, crashes, or is never submitted")
	verbose := flag.Bool("v", false, "show what DTM's client and the cluster log")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ok, err := run(ctx, *quorate, *postgres, *only, *quick, *verbose)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dtm:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, quorate, postgres, only string, quick, verbose bool) (ok bool, err error) {
	if !verbose {
		logger.WithLogger(quiet{})
	}
	books, err := openBooks(ctx, postgres)
	if err != nil {
		return false, err
	}
	defer books.close()
	cluster, err := startCluster(ctx, quorate, verbose)
	if err != nil {
		return false, err
	}
	defer cluster.stop()
	bank, err := startBank(books)
	if err != nil {
		return false, err
	}
	defer bank.stop()
	dtmcli.SetCurrentDBType(dtmcli.DBTypePostgres)

	fmt.Printf("%-36s %-9s %-7s %-24s %s\n", "TRANSACTION", "THROUGH", "KILLED", "THE CLIENT HEARD", "EFFECTS")
	ok = true
	began, count := time.Now(), 0
	for _, s := range scenes() {
		if !strings.Contains(s.name, only) || quick && strings.Contains(s.name, ", ") {
			continue
		}
		count++
		good, err := play(ctx, s, cluster, bank)
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
		ok = ok && good
	}
	if ok {
		fmt.Printf("all %d as they must be, in %v\n", count, time.Since(began).Round(100*time.Millisecond))
	}
	return ok, nil
}

// scene is one transaction of DTM's client, and what must be left of it.
type scene struct {
	name string
	// killIn is the effect before which the leader is killed, at its first call.
	killIn string
	// do runs the transaction and returns what the client said.
	do func(*act) error
	// fails says that the client must hear a failure; otherwise it must hear a
	// success, or honestly that the transaction still runs.
	fails bool
	// effects must be there in the end, each once, and no other.
	effects []string
}

// act is a scene that is being played.
type act struct {
	gid     string
	dtmHTTP string // DTM's URL of the node gone through
	dtmGRPC string
	bank    *bank
}

// play runs one scene, prints its line, and tells whether all was as it must be.
func play(ctx context.Context, s scene, c *cluster, b *bank) (bool, error) {
	leader, through, err := c.settled(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	a := &act{bank: b, dtmHTTP: "http://" + through.http + "/api/dtmsvr", dtmGRPC: through.grpc}
	a.gid = dtmcli.MustGenGid(a.dtmHTTP)
	killed := make(chan error, 1)
	b.before(s.killIn, func() { killed <- c.kill(leader) })
	said := s.do(a)
	effects, problem := b.books.await(ctx, a.gid, s.effects)
	heard, good := hearing(said, s.fails)
	select {
	case err := <-killed:
		if err != nil {
			return false, err
		}
	default:
		good, problem = false, problem+" the leader was never killed;"
	}
	if left := b.books.prepared(ctx, a.gid); left != 0 {
		problem += fmt.Sprintf(" %d branches stay prepared;", left)
	}
	fmt.Printf("%-36s %-9s %-7s %-24s %s\n", s.name, through.name, leader.name, heard, strings.Join(effects, " "))
	if problem != "" || !good {
		fmt.Printf("    NOT AS IT MUST BE: gid %s:%s want %s; the client said: %v\n", a.gid, problem, strings.Join(s.effects, " "), said)
		return false, nil
	}
	return true, nil
}

// hearing is what the client took the answer for, and whether it may.
func hearing(err error, fails bool) (heard string, good bool) {
	switch {
	case err == nil:
		return "success", !fails
	case strings.Contains(err.Error(), dtmcli.ResultFailure):
		return "failure", fails
	case strings.Contains(err.Error(), dtmcli.ResultOngoing):
		return "still running", true
	default:
		return "unknown", true
	}
}

// quiet discards what DTM's client logs.
type quiet struct{}

func (quiet) Debugf(string, ...any) {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
