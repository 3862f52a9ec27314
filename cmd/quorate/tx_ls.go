package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// lsFlags are the flags of `tx ls`.
type lsFlags struct {
	states, modes    []string
	inDoubt, stuck   bool
	olderThan        time.Duration
	resource, prefix string
	labels           map[string]string
	all, local       bool
	limit            int
	watch            time.Duration
}

// newTxLsCommand is `quorate tx ls`.
func newTxLsCommand(flags *clientFlags) *cobra.Command {
	ls := &lsFlags{}
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List transactions, oldest first",
		Long: `ls lists the transactions that have not ended; --all adds those that have, until retention drops them.
BRANCHES counts those that have ended, or voted (a saga's steps: are done) while nothing is decided, of all. ATTEMPTS
and NEXT are of the branch, or the initiator, that is called again soonest.`,
		Example: `  quorate tx ls --stuck
  quorate tx ls --state committing --older-than 5m -o jsonl`,
		Args: noArgs,
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, _ []string) error {
		filter, err := ls.filter(cmd)
		if err != nil {
			return err
		}
		if ls.watch > 0 {
			return watchList(cmd, c, ls, filter, flags.output)
		}
		return printList(cmd, c, ls, filter, flags.output)
	})
	f := cmd.Flags()
	f.StringSliceVar(&ls.states, "state", nil, "only these states: "+strings.Join(wordsOf("STATE_", quoratev1.State_name), ", "))
	f.StringSliceVar(&ls.modes, "mode", nil, "only these modes: "+strings.Join(wordsOf("MODE_", quoratev1.Mode_name), ", "))
	f.BoolVar(&ls.inDoubt, "in-doubt", false, "only those with a branch that voted and has not ended")
	f.BoolVar(&ls.stuck, "stuck", false, "only those with a branch that has been told in vain for long")
	f.DurationVar(&ls.olderThan, "older-than", 0, "only those begun longer ago than this, by the cluster's clock")
	f.StringVar(&ls.resource, "resource", "", "only those with a branch at this resource")
	f.StringVar(&ls.prefix, "key-prefix", "", "only those whose key begins so")
	f.StringToStringVar(&ls.labels, "label", nil, "only those with this label (name=value)")
	f.BoolVarP(&ls.all, "all", "a", false, "finished ones, too")
	f.BoolVar(&ls.local, "local", false, "ask the first endpoint for what it has applied, without the leader")
	f.IntVar(&ls.limit, "limit", 1000, "at most so many")
	f.DurationVarP(&ls.watch, "watch", "w", 0, "print the list again and again, this long apart")
	f.Lookup("watch").NoOptDefVal = "2s"
	return cmd
}

// filter builds the request's filter.
func (ls *lsFlags) filter(cmd *cobra.Command) (*quoratev1.Filter, error) {
	filter := &quoratev1.Filter{
		InDoubt: ls.inDoubt, Stuck: ls.stuck, Resource: ls.resource, KeyPrefix: ls.prefix,
		Labels: ls.labels, IncludeFinished: ls.all,
	}
	if ls.olderThan < 0 {
		return nil, usageError(cmd, "--older-than %v is negative", ls.olderThan)
	}
	if ls.limit < 1 {
		return nil, usageError(cmd, "--limit %d: want at least 1", ls.limit)
	}
	if ls.olderThan > 0 {
		filter.OlderThan = durationpb.New(ls.olderThan)
	}
	for _, text := range ls.states {
		value, ok := parseWord(text, "STATE_", quoratev1.State_value)
		if !ok {
			return nil, usageError(cmd, "--state %s: allowed are %s", text, strings.Join(wordsOf("STATE_", quoratev1.State_name), ", "))
		}
		state := quoratev1.State(value)
		filter.States = append(filter.States, state)
		// Asking for finished ones by their state means wanting to see them.
		if state == quoratev1.State_STATE_COMMITTED || state == quoratev1.State_STATE_ROLLED_BACK {
			filter.IncludeFinished = true
		}
	}
	for _, text := range ls.modes {
		value, ok := parseWord(text, "MODE_", quoratev1.Mode_value)
		if !ok {
			return nil, usageError(cmd, "--mode %s: allowed are %s", text, strings.Join(wordsOf("MODE_", quoratev1.Mode_name), ", "))
		}
		filter.Modes = append(filter.Modes, quoratev1.Mode(value))
	}
	return filter, nil
}

// pageSize is how many transactions are asked for at once.
const pageSize = 500

// list reads the pages of a list. header is that of the last page.
func (c *client) list(ctx context.Context, ls *lsFlags, filter *quoratev1.Filter) (transactions []*quoratev1.Transaction, header *quoratev1.ResponseHeader, more bool, err error) {
	request := &quoratev1.ListRequest{Filter: filter}
	if ls.local {
		request.Consistency = quoratev1.Consistency_CONSISTENCY_LOCAL
	}
	for {
		request.PageSize = uint32(min(pageSize, ls.limit-len(transactions)))
		var page *quoratev1.ListResponse
		err := c.call(ctx, "list transactions", func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			page, err = quoratev1.NewTransactionServiceClient(conn).List(ctx, request)
			return err
		})
		if err != nil {
			return nil, nil, false, err
		}
		transactions = append(transactions, page.GetTransactions()...)
		if page.GetNextPageToken() == "" || len(transactions) >= ls.limit {
			return transactions, page.GetHeader(), page.GetNextPageToken() != "", nil
		}
		request.PageToken = page.GetNextPageToken()
	}
}

// printList prints the list once.
func printList(cmd *cobra.Command, c *client, ls *lsFlags, filter *quoratev1.Filter, output string) error {
	transactions, header, more, err := c.list(cmd.Context(), ls, filter)
	if err != nil {
		return err
	}
	if machine(output) {
		return printMessages(cmd.OutOrStdout(), output, transactions)
	}
	if err := writeList(cmd.OutOrStdout(), transactions, header.GetClockMs(), time.Now(), output == "wide"); err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), listSummary(transactions, more))
	return nil
}

// watchList prints the list until it is interrupted.
func watchList(cmd *cobra.Command, c *client, ls *lsFlags, filter *quoratev1.Filter, output string) error {
	ticker := time.NewTicker(ls.watch)
	defer ticker.Stop()
	for {
		if !machine(output) {
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", time.Now().Format(time.TimeOnly))
		}
		if err := printList(cmd, c, ls, filter, output); err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-ticker.C:
		}
	}
}

// writeList prints the table. clockMS is the cluster's clock, now the wall's.
func writeList(w io.Writer, transactions []*quoratev1.Transaction, clockMS uint64, now time.Time, wide bool) error {
	var t table
	head := []string{"GID", "MODE", "STATE", "DECISION", "BRANCHES", "AGE", "ATTEMPTS", "NEXT", "KEY"}
	if wide {
		head = append(head, "REASON", "RESOURCES", "LABELS", "INITIATOR")
	}
	t.row(head...)
	for _, tx := range transactions {
		attempts, next := nextDelivery(tx, now)
		cells := []string{
			tx.GetGid(), modeWord(tx.GetMode()), stateOf(tx), decisionWord(tx.GetDecision()), branchCount(tx),
			ageOf(tx, clockMS), attempts, next, orNone(tx.GetKey()),
		}
		if wide {
			cells = append(cells, reasonWord(tx.GetReason()), resources(tx), labels(tx), orNone(tx.GetInitiator()))
		}
		t.row(cells...)
	}
	return t.write(w)
}

// stateOf is the state with what an operator must know beside it.
func stateOf(tx *quoratev1.Transaction) string {
	state := stateWord(tx.GetState())
	if tx.GetQuarantined() {
		state += ",quarantined"
	}
	if tx.GetWithheld() {
		state += ",withheld"
	}
	if tx.GetStopped() {
		state += ",stopped"
	}
	return state
}

// branchInDoubt tells of a branch that voted and has not ended: it may hold locks.
// One that is called is not in doubt, it is due, or stuck.
func branchInDoubt(tx *quoratev1.Transaction, b *quoratev1.Branch) bool {
	return !calledMode(tx) && b.GetVote() == quoratev1.Vote_VOTE_PREPARED && !b.GetTerminal()
}

// branchCount is `ended/all` once decided, `voted/all` before; a step of a saga
// votes by being done, and of a workflow by being recorded.
func branchCount(tx *quoratev1.Transaction) string {
	done := 0
	for _, b := range tx.GetBranches() {
		decided := tx.GetDecision() != quoratev1.Decision_DECISION_UNSPECIFIED
		voted := b.GetVote() != quoratev1.Vote_VOTE_UNSPECIFIED
		if (decided && b.GetTerminal()) || (!decided && voted) {
			done++
		}
	}
	return fmt.Sprintf("%d/%d", done, len(tx.GetBranches()))
}

func ageOf(tx *quoratev1.Transaction, clockMS uint64) string {
	began := tx.GetBegan().GetClockMs()
	if began == 0 || began > clockMS {
		return age(0)
	}
	old := time.Duration(clockMS-began) * time.Millisecond
	// The cluster's clock stands still while nothing is written; the leader's own does not.
	old = max(old, tx.GetCallback().GetDueFor().AsDuration())
	for _, b := range tx.GetBranches() {
		old = max(old, b.GetDelivery().GetDueFor().AsDuration())
	}
	return age(old)
}

// nextDelivery is of the branch that is told again soonest.
func nextDelivery(tx *quoratev1.Transaction, now time.Time) (attempts, next string) {
	soonest := tx.GetCallback()
	for _, b := range tx.GetBranches() {
		d := b.GetDelivery()
		if d == nil {
			continue
		}
		if soonest == nil || d.GetNextAttempt().AsTime().Before(soonest.GetNextAttempt().AsTime()) {
			soonest = d
		}
	}
	if soonest == nil {
		return "0", none
	}
	next = "now"
	if soonest.GetNextAttempt() != nil {
		if left := soonest.GetNextAttempt().AsTime().Sub(now); left > 0 {
			next = age(left)
		}
	}
	return strconv.Itoa(int(soonest.GetAttempts())), next
}

func resources(tx *quoratev1.Transaction) string {
	var names []string
	seen := make(map[string]bool)
	for _, b := range tx.GetBranches() {
		if name := b.GetSpec().GetResource(); name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return orNone(strings.Join(names, ","))
}

func labels(tx *quoratev1.Transaction) string {
	var pairs []string
	for _, name := range sortedKeys(tx.GetLabels()) {
		pairs = append(pairs, name+"="+tx.GetLabels()[name])
	}
	return orNone(strings.Join(pairs, ","))
}

func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}

// listSummary says how many, and what to look at.
func listSummary(transactions []*quoratev1.Transaction, more bool) string {
	inDoubt, stuck := 0, 0
	for _, tx := range transactions {
		doubt, isStuck := false, tx.GetCallback().GetStuck()
		for _, b := range tx.GetBranches() {
			doubt = doubt || branchInDoubt(tx, b)
			isStuck = isStuck || b.GetDelivery().GetStuck()
		}
		if doubt {
			inDoubt++
		}
		if isStuck {
			stuck++
		}
	}
	text := plural(len(transactions), "transaction", "transactions")
	if more {
		text += " (more exist: raise --limit)"
	}
	text += fmt.Sprintf(", %d in doubt, %d stuck.", inDoubt, stuck)
	if stuck > 0 {
		text += "  Stuck only: quorate tx ls --stuck"
	}
	return text
}
