package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/participant"
)

// The stores that a bank can keep its money in.
type (
	StoreKind = bankstore.Kind
	StoreSpec = bankstore.Spec
	Opener    = bankstore.Opener
)

// The kinds of stores that the demo offers.
const (
	Embedded = bankstore.Embedded
	Postgres = bankstore.Postgres
	MySQL    = bankstore.MySQL
)

// ErrFunds means that an account would go below zero.
var ErrFunds = bankstore.ErrFunds

// BankConfig says how to run one bank; command and ParseBankConfig carry it to
// the bank's process.
type BankConfig struct {
	Side    Side
	Listen  string
	Seeds   []string
	Store   StoreSpec
	Dir     string
	Opening int64
}

// dsnVariable carries a database's address to the bank: it holds a password, so
// it is no argument.
const dsnVariable = "QUORATE_DEMO_DSN"

// BankCommand is the hidden subcommand that runs a bank.
const BankCommand = "demo-bank"

// command returns the arguments and the environment of the bank's process.
func (c BankConfig) command() (args, env []string) {
	return []string{
		BankCommand, strconv.Itoa(int(c.Side)), c.Listen, strings.Join(c.Seeds, ","), string(c.Store.Kind), c.Dir,
		strconv.FormatInt(c.Opening, 10),
	}, []string{dsnVariable + "=" + c.Store.DSN}
}

// ParseBankConfig is the inverse of command.
func ParseBankConfig(args []string, getenv func(string) string) (BankConfig, error) {
	if len(args) != 6 {
		return BankConfig{}, fmt.Errorf("%s is started by quorate demo: it takes 6 arguments, not %d", BankCommand, len(args))
	}
	side, err := strconv.Atoi(args[0])
	if err != nil || side < 0 || side > 1 {
		return BankConfig{}, fmt.Errorf("%s: bank %q: want 0 or 1", BankCommand, args[0])
	}
	opening, err := strconv.ParseInt(args[5], 10, 64)
	if err != nil {
		return BankConfig{}, fmt.Errorf("%s: opening balance: %w", BankCommand, err)
	}
	return BankConfig{
		Side: Side(side), Listen: args[1], Seeds: strings.Split(args[2], ","),
		Store: StoreSpec{Kind: StoreKind(args[3]), DSN: getenv(dsnVariable)}, Dir: args[4], Opening: opening,
	}, nil
}

// tables is the prefix of the bank's tables: the run's directory makes it
// different for each run, so that runs may share a database.
func (c BankConfig) tables() string {
	run := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(filepath.Base(c.Dir)))
	if len(run) > 20 {
		run = run[len(run)-20:]
	}
	return fmt.Sprintf("quorate_%s_%c_", run, 'a'+rune(c.Side))
}

// store is where and what the bank's books are.
func (c BankConfig) store() bankstore.Config {
	return bankstore.Config{
		Resource: c.Side.String(), Spec: c.Store, Path: filepath.Join(c.Dir, c.Side.String()+".db"), Prefix: c.tables(),
		Accounts: accountsPerBank, Opening: Plan{Opening: c.Opening}.OpeningOf,
	}
}

// Serve runs a bank until ctx ends.
func Serve(ctx context.Context, c BankConfig, opener Opener, log *slog.Logger) error {
	b := &bank{}
	options := []participant.Option{
		participant.WithName(c.Side.String()), participant.WithLogger(log), participant.WithWitness(b.witness),
	}
	if detour.Armed() {
		options = append(options, participant.WithDialOptions(grpc.WithContextDialer(detour.DialTCP)))
	}
	client, err := participant.Dial(ctx, c.Seeds, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	b.store, err = bankstore.Open(ctx, c.store(), client, opener)
	if err != nil {
		return err
	}
	defer b.store.Close()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Side, err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /move", participant.Middleware(http.HandlerFunc(b.move)))
	mux.HandleFunc("GET /books", b.books)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), bankStopTimeout/2)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	defer stop()
	log.Info("bank serves", "bank", c.Side.String(), "store", c.Store.String(), "listen", c.Listen)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// bank is the service.
type bank struct {
	store bankstore.Store
	// keys has the transfer of each GID being worked on, for witness.
	keys sync.Map
}

// moveRequest is the body of POST /move.
type moveRequest struct {
	Key     string `json:"key"`
	Account int    `json:"account"`
	Delta   int64  `json:"delta"`
}

// move changes a balance as a branch of the caller's transaction: 200 when it is
// prepared and has voted, 402 for lack of funds.
func (b *bank) move(w http.ResponseWriter, r *http.Request) {
	var req moveRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tx, ok := participant.FromContext(r.Context())
	if !ok {
		http.Error(w, "money moves in transactions only: the request carries no GID", http.StatusBadRequest)
		return
	}
	b.keys.Store(tx.GID, req.Key)
	defer b.keys.Delete(tx.GID)
	switch err := b.store.Work(r.Context(), []bankstore.Move{{Account: req.Account, Delta: req.Delta}}, nil); {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.Is(err, ErrFunds):
		http.Error(w, err.Error(), http.StatusPaymentRequired)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// books answers all that the bank holds.
func (b *bank) books(w http.ResponseWriter, r *http.Request) {
	books, err := b.store.Books(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(booksOf(books))
}

// witness is where --kill-participant strikes.
func (b *bank) witness(m participant.Moment) {
	if key, ok := b.keys.Load(m.Branch.GID); ok && m.Step == participant.StepPrepared {
		_ = failpoint.Hit(failpoint.Prepared, key.(string))
	}
}
