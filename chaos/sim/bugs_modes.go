package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// The bugs that are planted for the modes whose branches are called.
const (
	BugRecordLastWins   Bug = "last-record-wins"             // a second word on a step is acknowledged
	BugRecordNotLogged  Bug = "record-not-logged"            // a word is acknowledged and not written
	BugReadForgets      Bug = "read-forgets-records"         // a read shows what was recorded under this leader alone
	BugWorkflowForgets  Bug = "workflow-runs-all-again"      // the code does not heed the record
	BugReadShowsAnother Bug = "read-shows-another-result"    // a read of a recorded word is not what was said
	BugWorkflowHalf     Bug = "workflow-commits-half-way"    // the code commits after its first step
	BugResultDropped    Bug = "workflow-result-dropped"      // what the code returned is not kept
	BugTopicStale       Bug = "topic-as-the-leader-knew-it"  // a leader goes by the list that it saw first
	BugTopicForgetsOne  Bug = "topic-forgets-a-subscriber"   // of several subscribers one gets a message
	BugTopicMisdelivers Bug = "topic-delivered-elsewhere"    // what goes to a subscriber arrives at another shop
	BugTopicNotLogged   Bug = "unsubscribe-not-logged"       // an unsubscription is acknowledged and not written
	BugStopNotLogged    Bug = "stop-not-logged"              // a stop is acknowledged and not written
	BugCallsTheStopped  Bug = "stopped-is-called"            // a call is repeated whatever has ended
	BugFailureIsBusy    Bug = "notify-never-gives-up"        // an attempt that failed does not count
	BugGivesUpAtOnce    Bug = "notify-gives-up-at-once"      // the first attempt that fails is the last
	BugFailureIsSuccess Bug = "a-call-that-failed-succeeded" // no answer passes for a good one
)

// ModeBugs lists them, and the promise by which each must be found.
var ModeBugs = map[Bug]string{
	BugShopWithoutFence: "S15", BugRecordLastWins: "S9", BugRecordNotLogged: "S6", BugReadForgets: "S7", BugWorkflowForgets: "S15",
	BugReadShowsAnother: "S9", BugWorkflowHalf: "S15", BugTopicForgetsOne: "S10", BugTopicMisdelivers: "S15", BugResultDropped: "S15", BugTopicStale: "S9", BugTopicNotLogged: "S6", BugStopNotLogged: "S6", BugCallsTheStopped: "S11",
	BugFailureIsBusy: "S15", BugGivesUpAtOnce: "S15", BugFailureIsSuccess: "S15",
}

// liesAbout: the leader says that it did what it was asked, and does nothing.
func (n *node) liesAbout(c *logpb.Command) bool {
	if n.reign == nil {
		return false
	}
	switch n.w.bug {
	case BugRecordNotLogged:
		return c.GetRecord() != nil
	case BugTopicNotLogged:
		return c.GetPutTopic().GetChange() == logpb.PutTopic_CHANGE_UNSUBSCRIBE
	case BugStopNotLogged:
		return c.GetStop() != nil
	}
	return false
}

// overwritesWord lets the last who records a step have his way.
func (n *node) overwritesWord(c *logpb.Command, r *fsm.Result) {
	if n.w.bug == BugRecordLastWins && c.GetRecord() != nil && r.Code == fsm.VoteConflict {
		r.Code = fsm.OK
	}
}

// forgets shows a record without what was recorded under earlier leaders.
func (n *node) forgets(rec *logpb.Transaction) *logpb.Transaction {
	if n.w.bug != BugReadForgets && n.w.bug != BugReadShowsAnother || rec.GetBegin().GetMode() != logpb.Mode_MODE_WORKFLOW {
		return rec
	}
	shown := &logpb.Transaction{Begin: rec.GetBegin(), State: rec.GetState(), Decision: rec.GetDecision(), Decided: rec.GetDecided(), Result: rec.GetResult()}
	for _, b := range rec.GetBranches() {
		switch {
		case n.w.bug == BugReadShowsAnother:
			b = &logpb.Branch{Spec: b.GetSpec(), Operation: b.GetOperation(), Vote: b.GetVote(), Voted: b.GetVoted()}
		case b.GetVoted().GetTerm() != n.hard.term:
			continue
		}
		shown.Branches = append(shown.Branches, b)
	}
	return shown
}

// misdelivers is the shop where a call arrives.
func (n *node) misdelivers(s *shop, d coordinator.Delivery) *shop {
	if n.w.bug == BugTopicMisdelivers && d.Topic != "" {
		return n.w.shops[(slices.Index(n.w.shops, s)+1)%len(n.w.shops)]
	}
	return s
}

// plantedModes bends a command of a mode whose branches are called.
func (n *node) plantedModes(c *logpb.Command) *logpb.Command {
	switch d := c.GetDecide(); {
	case n.w.bug == BugResultDropped && len(d.GetResult()) > 0:
		return decide(&logpb.Decide{Gid: d.GetGid(), Decision: d.GetDecision(), Origin: d.GetOrigin(), Reason: d.GetReason()})
	case n.w.bug == BugTopicStale && c.GetPutTopic() != nil && n.w.stale == "":
		n.w.stale = c.GetPutTopic().GetSubscriber().GetEndpoint()
	case (n.w.bug == BugTopicStale || n.w.bug == BugTopicForgetsOne) && c.GetSubmit().GetBegin().GetMode() == logpb.Mode_MODE_NOTIFY:
		s := c.GetSubmit()
		return &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: s.GetBegin(), Set: n.bentTopics(s.GetSet())}}}
	}
	return c
}

// bentTopics puts one subscriber in the place of each topic: the first that there ever
// was, or the first of several.
func (n *node) bentTopics(specs []*logpb.BranchSpec) (all []*logpb.BranchSpec) {
	for _, s := range specs {
		name, isTopic := strings.CutPrefix(s.GetEndpoint(), "topic://")
		topic, _ := n.state.Topic(namespace, name)
		switch {
		case isTopic && n.w.bug == BugTopicStale:
			s = &logpb.BranchSpec{Id: s.GetId(), Endpoint: n.w.stale}
		case isTopic && len(topic.GetSubscribers()) > 1:
			s = &logpb.BranchSpec{Id: s.GetId() + "-01", Endpoint: topic.GetSubscribers()[0].GetEndpoint()}
		}
		all = append(all, s)
	}
	for _, s := range all {
		if n.w.bug == BugTopicForgetsOne {
			s.After = nil // which names what there is no more
		}
	}
	return all
}

// plantedCall bends what comes of a call.
func (n *node) plantedCall(d coordinator.Delivery, called func(coordinator.Answered, error)) func(coordinator.Answered, error) {
	switch n.w.bug {
	case BugCallsTheStopped:
		n.after(3*time.Second, func() {
			if rec, ok := n.state.Get(d.GID); ok && rec.GetStopped() && n.reign != nil && d.Epoch.Term == n.hard.term {
				n.callEndpoint(d)
			}
		})
	case BugFailureIsBusy, BugFailureIsSuccess, BugGivesUpAtOnce:
		return func(a coordinator.Answered, err error) {
			failed := err != nil || a.Refused && d.Mode == logpb.Mode_MODE_NOTIFY
			switch {
			case !failed || d.Operation != fsm.OperationAction:
				called(a, err)
			case n.w.bug == BugFailureIsBusy:
				called(coordinator.Answered{Busy: true}, nil)
			case n.w.bug == BugFailureIsSuccess:
				called(coordinator.Answered{}, nil)
			default:
				n.submit([]*logpb.Command{{Kind: &logpb.Command_Report{Report: &logpb.Report{
					Gid: d.GID.Bytes(), Branch: d.Branch, Outcome: logpb.Outcome_OUTCOME_GAVE_UP,
				}}}}, func([]fsm.Result, error) {})
			}
		}
	}
	return called
}
