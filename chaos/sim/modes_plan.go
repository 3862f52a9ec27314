package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
)

// calledPlan is one transaction whose branches are called.
type calledPlan struct {
	ID        int
	At        time.Duration
	Client    int
	Mode      logpb.Mode
	TimeoutMS uint64
	Steps     []calledStep
	// Leaves is after how many of its own doings the initiator is not heard of again, or
	// a workflow's code dies with its process; more than it has to do: it stays.
	Leaves int
	// Attempts at an action before it counts as given up; 0: no bound, or the node's.
	Attempts uint32
	// Takes back: it asks for a rollback so long after its submit; 0: never.
	TakesBack time.Duration
	// Again says everything a second time, so long after.
	Again time.Duration
	// Wide: a workflow's code starts its steps together.
	Wide bool
	// ResumeMS is what lies between two resumes, beyond a second.
	ResumeMS uint64
	Old      bool // its GID is made of a clock at the horizon
	Rivals   []calledRival
}

// calledStep is one branch.
type calledStep struct {
	ID      string
	Shop    int
	Topic   string // its subscribers are called, and not the shop
	After   []string
	Refuses bool
	Takes   time.Duration
}

type calledWish uint8

const (
	calledStop calledWish = iota
	calledResolve
	calledOther
	calledSame
	calledRollback // last: not every mode bears it
)

// calledRival is what another client wants of the same transaction, or an operator.
type calledRival struct {
	Client int
	After  time.Duration
	Wish   calledWish
}

// topicChange is somebody who changes a topic.
type topicChange struct {
	ID     int
	At     time.Duration
	Client int
	Topic  string
	Shop   int
	Change logpb.PutTopic_Change
}

// shopFault is a shop that is away.
type shopFault struct {
	Shop    int
	At, For time.Duration
	Paused  bool // else it dies
}

// calledModes are drawn from: some more often than others.
var calledModes = []logpb.Mode{
	logpb.Mode_MODE_SAGA, logpb.Mode_MODE_SAGA, logpb.Mode_MODE_TCC, logpb.Mode_MODE_TCC, logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_MESSAGE,
	logpb.Mode_MODE_WORKFLOW, logpb.Mode_MODE_WORKFLOW, logpb.Mode_MODE_NOTIFY,
}

var topicNames = []string{"orders", "stock"}

// modesPlan adds transactions of every such mode, topics that change, and shops that
// fail.
func (p *Plan) modesPlan(calm bool) {
	r := source(p.Seed, 99)
	p.Shops = 2 + r.IntN(2)
	active := p.Span
	for i := range 6 + r.IntN(6) {
		t := calledPlan{
			ID: i, At: between(r, 2*time.Second, max(3*time.Second, active/2)), Client: r.IntN(p.Clients), Leaves: 99,
			Mode: calledModes[r.IntN(len(calledModes))],
		}
		for k := range 1 + r.IntN(4) {
			s := calledStep{ID: fmt.Sprintf("%02d", k+1), Shop: r.IntN(p.Shops), Takes: between(r, 0, 80*time.Millisecond)}
			for _, earlier := range t.Steps {
				if t.Mode != logpb.Mode_MODE_TCC && t.Mode != logpb.Mode_MODE_WORKFLOW && chance(r, 0.6) {
					s.After = append(s.After, earlier.ID)
				}
			}
			t.Steps = append(t.Steps, s)
		}
		p.calledMode(r, &t)
		if !calm {
			p.calledTrouble(r, &t)
		}
		p.Called = append(p.Called, t)
	}
	for range r.IntN(4) {
		if !calm {
			p.ShopFaults = append(p.ShopFaults, shopFault{
				Shop: r.IntN(p.Shops), At: between(r, 2*time.Second, active), For: between(r, 100*time.Millisecond, 9*time.Second), Paused: chance(r, 0.5),
			})
		}
	}
	p.topicPlan(r, calm)
	for i := range p.Txs {
		if !calm && chance(r, 0.05) {
			p.Txs[i].Rivals = append(p.Txs[i].Rivals, rivalPlan{Client: r.IntN(p.Clients), Wish: rivalStop, After: between(r, 0, 5*time.Second)})
		}
	}
}

// calledMode is what a mode has of its own.
func (p *Plan) calledMode(r *rand.Rand, t *calledPlan) {
	switch t.Mode {
	case logpb.Mode_MODE_TCC:
		t.TimeoutMS = 3_000 + r.Uint64N(12_000)
	case logpb.Mode_MODE_WORKFLOW:
		t.ResumeMS = r.Uint64N(3_000)
		if t.Wide = chance(r, 0.3); t.Wide {
			return
		}
		for k := 1; k < len(t.Steps); k++ {
			t.Steps[k].After = []string{t.Steps[k-1].ID}
		}
	case logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_NOTIFY:
		if chance(r, 0.5) {
			t.Steps[r.IntN(len(t.Steps))].Topic = topicNames[r.IntN(len(topicNames))]
			t.At += time.Second // somebody has subscribed by then, or not
		}
	}
}

// topicPlan lets shops subscribe early, and some change their mind while messages go
// to the topics. Where nothing fails, every topic stands before the first of them.
func (p *Plan) topicPlan(r *rand.Rand, calm bool) {
	for _, topic := range topicNames {
		for shop := range p.Shops {
			if calm || chance(r, 0.6) {
				p.TopicChanges = append(p.TopicChanges, topicChange{
					Client: r.IntN(p.Clients), Topic: topic, Shop: shop, Change: logpb.PutTopic_CHANGE_SUBSCRIBE, At: between(r, 1500*time.Millisecond, 2500*time.Millisecond),
				})
			}
		}
		for range 2 + r.IntN(5) {
			c := topicChange{Client: r.IntN(p.Clients), Topic: topic, Shop: r.IntN(p.Shops), At: between(r, 2*time.Second, p.Span/2+2*time.Second)}
			c.Change = logpb.PutTopic_CHANGE_SUBSCRIBE + logpb.PutTopic_Change(r.IntN(2))
			if chance(r, 0.08) {
				c.Change = logpb.PutTopic_CHANGE_DELETE
			}
			if !calm {
				p.TopicChanges = append(p.TopicChanges, c)
			}
		}
	}
	for i := range p.TopicChanges {
		p.TopicChanges[i].ID = i
	}
	for i := range p.Called {
		if calm {
			p.Called[i].At = max(p.Called[i].At, 5*time.Second)
		}
	}
}

// calledTrouble makes a transaction one that does not run as its initiator would like.
func (p *Plan) calledTrouble(r *rand.Rand, t *calledPlan) {
	if chance(r, 0.3) && t.Mode != logpb.Mode_MODE_MESSAGE {
		t.Steps[r.IntN(len(t.Steps))].Refuses = true
	}
	if chance(r, 0.25) {
		t.Leaves = r.IntN(4)
	}
	if t.Mode == logpb.Mode_MODE_WORKFLOW && chance(r, 0.4) {
		t.Leaves = r.IntN(9)
	}
	if t.Mode == logpb.Mode_MODE_SAGA && chance(r, 0.2) {
		t.TimeoutMS = 50 + r.Uint64N(3_000)
	}
	switch {
	case t.Mode == logpb.Mode_MODE_MESSAGE && chance(r, 0.4): // which must not end it
		t.TimeoutMS = 500 + r.Uint64N(5_000)
	case t.Mode == logpb.Mode_MODE_SAGA && chance(r, 0.3):
		t.Attempts = 1 + uint32(r.IntN(3))
	case t.Mode == logpb.Mode_MODE_NOTIFY && chance(r, 0.8):
		t.Attempts = 1 + uint32(r.IntN(4))
	}
	if chance(r, 0.15) {
		t.TakesBack = between(r, time.Millisecond, 2*time.Second)
	}
	if chance(r, 0.3) {
		t.Again = between(r, time.Millisecond, 4*time.Second)
	}
	if chance(r, 0.2) {
		t.Steps[r.IntN(len(t.Steps))].Takes = between(r, time.Second, 6*time.Second)
	}
	t.Old = chance(r, 0.05)
	p.calledRivals(r, t)
}

func (p *Plan) calledRivals(r *rand.Rand, t *calledPlan) {
	wishes := int(calledRollback)
	if t.Mode == logpb.Mode_MODE_SAGA || t.Mode == logpb.Mode_MODE_TCC || t.Mode == logpb.Mode_MODE_NOTIFY {
		wishes++ // the others' initiators have done something that nobody else may roll back
	}
	if !t.Old && !chance(r, 0.3) {
		return
	}
	for range 1 + r.IntN(3) {
		rival := calledRival{Client: r.IntN(p.Clients), Wish: calledWish(r.IntN(wishes)), After: between(r, 0, 5*time.Second)}
		if chance(r, 0.3) { // long afterwards
			rival.After = between(r, 10*time.Second, 200*time.Second)
		}
		if chance(r, 0.3) {
			rival.After = between(r, 0, 20*time.Millisecond)
		}
		t.Rivals = append(t.Rivals, rival)
	}
}
