package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant"
)

// The scenario whose participants do real work. Its floor needs no cluster.
const (
	transferName  = "transfer"
	transferDoc   = "money moves between two stores by the SDK: begin, a prepared branch in each, commit"
	transferFloor = "the same work in the same stores, prepared and committed by a loop with no coordinator"
)

// Each caller has accounts of its own, and takes the next one for each transfer: what is
// measured is no queue for a lock. With one, a caller would wait for the end of its own
// last transfer, which comes after the answer.
const (
	accountsEach   = 4
	openingBalance = 1 << 40
)

// rota gives the callers the accounts that they use next.
type rota []int

func (r rota) next(caller int) int {
	r[caller]++
	return caller*accountsEach + r[caller]%accountsEach
}

// transferSides are the product, and the loop without a coordinator.
func (r *runner) transferSides(callers int) []side {
	sides := []side{{sideProduct, func(ctx context.Context) (Slice, error) { return r.transferSlice(ctx, callers) }}}
	if !r.o.NoFloor {
		sides = append(sides, side{sideFloor, func(ctx context.Context) (Slice, error) { return r.loopSlice(ctx, callers) }})
	}
	return sides
}

// banks are the configurations of two fresh banks.
func (r *runner) banks(callers int) ([2]bankstore.Config, error) {
	run := strings.ToLower(rand.Text()[:10])
	var configs [2]bankstore.Config
	dir := filepath.Join(r.o.Dir, "stores")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return configs, err
	}
	for i := range configs {
		name := fmt.Sprintf("bench-%s-%c", run, 'a'+i)
		configs[i] = bankstore.Config{
			Resource: name, Spec: r.o.Stores[i], Path: filepath.Join(dir, name+".db"), Prefix: strings.ReplaceAll(name, "-", "_") + "_",
			Accounts: callers * accountsEach, Opening: func(int) int64 { return openingBalance }, LockWait: 10 * time.Second, IdleConnections: callers, PinnedMax: max(64, callers),
		}
	}
	return configs, nil
}

// dropBanks leaves nothing behind in databases that are not ours.
func (r *runner) dropBanks(configs [2]bankstore.Config) {
	for _, c := range configs {
		if c.Spec.Kind == bankstore.Embedded {
			_ = os.Remove(c.Path)
		} else if t, err := bankstore.OpenTables(c, r.o.Opener); err == nil {
			t.Drop()
		}
	}
}

// transferSlice measures the product.
func (r *runner) transferSlice(ctx context.Context, callers int) (one Slice, err error) {
	configs, err := r.banks(callers)
	if err != nil {
		return Slice{}, err
	}
	defer r.dropBanks(configs)
	if err := r.product.t.resize(ctx, callers); err != nil {
		return Slice{}, err
	}
	client, err := participant.Dial(ctx, r.product.t.seeds, participant.WithDeliveries(max(16, callers)), participant.WithSubmitStream())
	if err != nil {
		return Slice{}, err
	}
	var stores [2]bankstore.Store
	var once sync.Once
	closeAll := func() (err error) {
		once.Do(func() {
			err = client.Close()
			for _, s := range stores {
				if s != nil {
					err = errors.Join(err, s.Close())
				}
			}
		})
		return err
	}
	defer func() { _ = closeAll() }()
	for i, c := range configs {
		if stores[i], err = bankstore.Open(ctx, c, client, r.o.Opener); err != nil {
			return Slice{}, err
		}
	}
	b := &bed{t: r.product.t, product: true, resources: [2]string{configs[0].Resource, configs[1].Resource}, answers: &answers{}, gate: &gate{}}
	if err := b.t.tune(ctx); err != nil {
		return Slice{}, err
	}
	accounts := make(rota, callers)
	op := func(ctx context.Context, caller int) error {
		var gid string
		account := accounts.next(caller)
		err := client.Run(ctx, func(ctx context.Context) error {
			tx, _ := participant.FromContext(ctx)
			gid = string(tx.GID)
			if err := stores[0].Work(ctx, []bankstore.Move{{Account: account, Delta: -1}}, nil); err != nil {
				return err
			}
			return stores[1].Work(ctx, []bankstore.Move{{Account: account, Delta: 1}}, nil)
		}, participant.OneShot(), participant.PrepareBehind())
		return b.decided(gid, quoratev1.Decision_DECISION_COMMIT, "", err)
	}
	one, err = r.counted(ctx, r.product, callers, op, b.drain)
	if err != nil {
		return one, err
	}
	if one.Compared, err = b.verify(ctx); err != nil {
		return one, err
	}
	if err := closeAll(); err != nil {
		return one, err
	}
	return one, r.checkBooks(ctx, configs, b.answers.told)
}

// checkBooks compares the stores with the answers: each transfer that was answered as
// committed has taken effect in both, and no money was made or lost.
func (r *runner) checkBooks(ctx context.Context, configs [2]bankstore.Config, told []told) error {
	var total int64
	var moved [2]map[string]bool
	for i, c := range configs {
		books, err := bankstore.ReadBooks(ctx, c, r.o.Opener)
		if err != nil {
			return err
		}
		total += books.Total()
		moved[i] = map[string]bool{}
		for ref := range books.Ledger {
			gid, _, _ := strings.Cut(ref, "/")
			moved[i][gid] = true
		}
	}
	for _, t := range told {
		if !moved[0][t.gid] || !moved[1][t.gid] {
			return fmt.Errorf("transfer %s was answered as committed, and took effect in bank a: %v, in bank b: %v", t.gid, moved[0][t.gid], moved[1][t.gid])
		}
	}
	if want := int64(configs[0].Accounts+configs[1].Accounts) * openingBalance; total != want {
		return fmt.Errorf("there was %d in both banks, and now there is %d", want, total)
	}
	return nil
}

// loopSlice measures the loop without a coordinator.
func (r *runner) loopSlice(ctx context.Context, callers int) (Slice, error) {
	configs, err := r.banks(callers)
	if err != nil {
		return Slice{}, err
	}
	defer r.dropBanks(configs)
	var stores [2]preparer
	defer func() {
		for _, s := range stores {
			if s != nil {
				_ = s.close()
			}
		}
	}()
	for i, c := range configs {
		if stores[i], err = openPreparer(ctx, c, r.o.Opener); err != nil {
			return Slice{}, err
		}
	}
	var names target // its clock stays at 0: the names need be fresh, not young
	var made atomic.Int64
	accounts := make(rota, callers)
	one, err := r.counted(ctx, nil, callers, func(ctx context.Context, caller int) error {
		name, account := names.freshGID(), accounts.next(caller)
		for i, delta := range [2]int64{-1, 1} {
			if err := stores[i].prepare(ctx, name, account, delta); err != nil {
				return err
			}
		}
		if err := both(func(i int) error { return stores[i].commit(ctx, name, account) }); err != nil {
			return err
		}
		made.Add(1)
		return nil
	}, nil)
	if err != nil {
		return one, err
	}
	for i, s := range stores {
		moved, err := s.moved(ctx)
		if err == nil && moved != made.Load() {
			err = fmt.Errorf("the loop made %d transfers, and bank %c shows %d", made.Load(), 'a'+i, moved)
		}
		if err != nil {
			return one, err
		}
	}
	one.Compared = int(made.Load())
	return one, nil
}
