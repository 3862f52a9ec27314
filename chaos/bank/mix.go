package bank

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
)

// Shape is what a transaction is made to go through.
type Shape string

// The shapes.
const (
	ShapeTransfer  Shape = "transfer"  // two branches of two resources
	ShapeWide      Shape = "wide"      // a branch of each resource, the first pays all the others
	ShapeNested    Shape = "nested"    // a participant calls another one
	ShapeReader    Shape = "reader"    // a transfer, and a branch that only reads
	ShapeRefused   Shape = "refused"   // the last participant rolls its branch back
	ShapeUnfunded  Shape = "unfunded"  // the payer lacks the funds
	ShapeAbandoned Shape = "abandoned" // the initiator gives up when all have voted
	ShapeContrary  Shape = "contrary"  // commit and rollback are asked at once
	ShapeLate      Shape = "late"      // a branch that nobody waits for, near the seal
	ShapeKeyed     Shape = "keyed"     // several begin it by one key; one runs
	ShapeHurried   Shape = "hurried"   // its deadline is near: it decides, or the initiator
	ShapeCrossed   Shape = "crossed"   // two hot accounts, in an order that meets another's
	ShapeSibling   Shape = "sibling"   // two branches of one resource on one account
)

// shares are how often each shape is drawn.
var shares = []struct {
	shape  Shape
	weight int
}{
	{ShapeTransfer, 38}, {ShapeWide, 8}, {ShapeNested, 10}, {ShapeReader, 6}, {ShapeRefused, 4}, {ShapeUnfunded, 3},
	{ShapeAbandoned, 4}, {ShapeContrary, 9}, {ShapeLate, 7}, {ShapeKeyed, 3}, {ShapeHurried, 4}, {ShapeCrossed, 3}, {ShapeSibling, 1},
}

const (
	amountMax = 20
	// tooMuch is more than any account ever holds.
	tooMuch = int64(1) << 40
	// hotAccounts are the first of each resource: many transactions meet there.
	hotAccounts = 4
	hotShare    = 0.15
	// namedShare of the transactions name their set in one request.
	namedShare = 0.3
	// oneShotShare of the others, where they can, are one request in all. When their
	// initiator dies they keep their locks for longer than others, so they are few.
	oneShotShare   = 0.15
	oneShotTimeout = 5 * time.Second
	// heldWeight is how often a resource that admits one writer at a time is drawn
	// against one of another kind, in percent.
	heldWeight = 25
)

// transaction is one draw of the mix.
type transaction struct {
	shape   Shape
	named   bool
	oneShot bool
	timeout time.Duration
	key     string
	calls   []Call
	late    *Call // not waited for
	tardy   bool  // it is made when all is over
}

// mix draws transactions. It is for one goroutine.
type mix struct {
	plan *Plan
	rng  *rand.Rand
	keys []string // recent ones, to begin again
}

func (m *mix) next(n int64) transaction {
	t := transaction{shape: m.shape(), named: m.rng.Float64() < namedShare, timeout: m.plan.Timeout}
	switch t.shape {
	case ShapeWide:
		t.calls = m.wide()
	case ShapeCrossed:
		t.calls = m.crossed()
	case ShapeSibling:
		t.calls = m.sibling()
	default:
		t.calls = m.transfer()
	}
	switch t.shape {
	case ShapeNested:
		outer, inner := t.calls[0], t.calls[1]
		outer.Work.Then = &inner
		t.calls = []Call{outer}
	case ShapeReader:
		r := m.resource()
		t.calls = append(t.calls, Call{Resource: r.Name, Work: Work{Reads: []int{m.account(r), m.account(r)}}})
	case ShapeRefused:
		t.calls[len(t.calls)-1].Work.Refuse = true
	case ShapeUnfunded:
		m.enlarge(t.calls)
	case ShapeLate:
		t.named = false // a named set needs every call's end
		t.late = m.lateCall()
		t.tardy = t.late.Work.WaitMS%4 == 0
	case ShapeKeyed:
		t.key = m.key(n)
	case ShapeHurried:
		t.timeout = time.Duration(50+m.rng.IntN(500)) * time.Millisecond
		t.calls[0].Work.HoldMS = m.rng.IntN(400)
	}
	if !t.named && m.rng.Float64() < oneShotShare && m.canBeOneShot(t) {
		t.oneShot, t.timeout = true, min(t.timeout, oneShotTimeout)
	}
	return t
}

// canBeOneShot: its branches are not held, and all of its calls are waited for.
func (m *mix) canBeOneShot(t transaction) bool {
	switch t.shape {
	case ShapeTransfer, ShapeWide, ShapeNested, ShapeReader, ShapeRefused, ShapeUnfunded, ShapeAbandoned, ShapeCrossed:
	default:
		return false
	}
	held := map[string]bool{}
	for _, r := range m.plan.Resources {
		held[r.Name] = r.Held()
	}
	for _, call := range t.calls {
		if held[call.Resource] || call.Work.Then != nil && held[call.Work.Then.Resource] {
			return false
		}
	}
	return true
}

func (m *mix) shape() Shape {
	total := 0
	for _, s := range shares {
		total += s.weight
	}
	at := m.rng.IntN(total)
	for _, s := range shares {
		if at -= s.weight; at < 0 {
			return s.shape
		}
	}
	return ShapeTransfer
}

// resource draws one, held ones less often.
func (m *mix) resource() Resource {
	for {
		r := m.plan.Resources[m.rng.IntN(len(m.plan.Resources))]
		if !r.Held() || m.rng.IntN(100) < heldWeight {
			return r
		}
	}
}

// pair draws two different resources, or the same twice when there is one only.
func (m *mix) pair() (from, to Resource) {
	from = m.resource()
	for {
		to = m.resource()
		if to.Name != from.Name || len(m.plan.Resources) == 1 {
			return from, to
		}
	}
}

func (m *mix) account(r Resource) int {
	if m.rng.Float64() < hotShare {
		return m.rng.IntN(hotAccounts)
	}
	return m.rng.IntN(r.Accounts)
}

func (m *mix) amount() int64 { return 1 + m.rng.Int64N(amountMax) }

func one(r Resource, account int, delta int64) Call {
	return Call{Resource: r.Name, Work: Work{Moves: []bankstore.Move{{Account: account, Delta: delta}}}}
}

// transfer is two calls, in either order: a lack of funds finds nothing done, or a
// prepared branch.
func (m *mix) transfer() []Call {
	from, to := m.pair()
	amount := m.amount()
	a, b := m.account(from), m.account(to)
	if from.Name == to.Name && a == b {
		b = (a + 1) % to.Accounts
	}
	calls := []Call{one(from, a, -amount), one(to, b, amount)}
	if m.rng.IntN(2) == 0 {
		calls[0], calls[1] = calls[1], calls[0]
	}
	return calls
}

// enlarge makes the transfer's amount one that nobody has.
func (m *mix) enlarge(calls []Call) {
	for i := range calls {
		for k, move := range calls[i].Work.Moves {
			calls[i].Work.Moves[k].Delta = tooMuch
			if move.Delta < 0 {
				calls[i].Work.Moves[k].Delta = -tooMuch
			}
		}
	}
}

func (m *mix) wide() []Call {
	var calls []Call
	amount := m.amount()
	for i, at := range m.rng.Perm(len(m.plan.Resources)) {
		r := m.plan.Resources[at]
		delta := amount
		if i == 0 {
			delta = -amount * int64(len(m.plan.Resources)-1)
		}
		calls = append(calls, one(r, m.account(r), delta))
	}
	return calls
}

// crossed changes two hot accounts of each of two resources, in an order of its
// own: others take the other one.
func (m *mix) crossed() []Call {
	from, to := m.pair()
	amount := m.amount()
	order := m.rng.Perm(hotAccounts)
	calls := []Call{one(from, order[0], -amount), one(to, order[0], amount)}
	for i := range calls {
		calls[i].Work.Moves = append(calls[i].Work.Moves, bankstore.Move{Account: order[1], Delta: calls[i].Work.Moves[0].Delta})
		calls[i].Work.HoldMS = m.rng.IntN(20)
	}
	if from.Name == to.Name {
		return calls[:0:0]
	}
	return calls
}

// sibling has two branches of one resource meet on one account: the second cannot
// have its lock before the first one is decided.
func (m *mix) sibling() []Call {
	r, amount := m.resource(), m.amount()
	account := m.account(r)
	return []Call{one(r, account, amount), one(r, account, -amount)}
}

// lateCall moves money within one resource, so that the sum is right whether it
// comes in time or not.
func (m *mix) lateCall() *Call {
	r, amount := m.resource(), m.amount()
	a := m.account(r)
	return &Call{Resource: r.Name, Work: Work{
		Late: true, WaitMS: m.rng.IntN(60), HoldMS: m.rng.IntN(10),
		Moves: []bankstore.Move{{Account: a, Delta: -amount}, {Account: (a + 1) % r.Accounts, Delta: amount}},
	}}
}

// key draws a new key or a recent one.
func (m *mix) key(n int64) string {
	if len(m.keys) > 0 && m.rng.IntN(2) == 0 {
		return m.keys[m.rng.IntN(len(m.keys))]
	}
	// Keys are shared by all workers of all initiators: about as many new ones begin
	// at once as are begun again.
	key := fmt.Sprintf("bank-%d", n/4)
	m.keys = append(m.keys, key)
	const recent = 16
	if len(m.keys) > recent {
		m.keys = m.keys[1:]
	}
	return key
}
