package bank

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/testdb"
)

// Servers are the databases of a run: private servers that may be killed, and
// files.
type Servers struct {
	Databases []Database
	// Private are the servers that are the run's own, by resource.
	Private map[string]*testdb.Server
}

// Names of what ParseDatabases understands.
const (
	wordSQLite    = "sqlite"
	wordPostgres  = "postgres"
	wordMariaDB   = "mariadb"
	wordInstalled = "installed"
	wordNone      = "none"
)

// postgresSlots are the prepared transactions that a private Postgres admits: few
// enough to be used up, and enough for the load.
const postgresSlots = 40

// OpenServers provides the databases that a list names: sqlite (a file in dir),
// postgres and mariadb (a private server, from the machine's packages),
// postgres=DSN and mysql=DSN (a database of the user's), installed (what there is),
// none. What is not possible here is said, not skipped in silence.
func OpenServers(ctx context.Context, dir string, list []string) (s *Servers, impossible map[string]string, err error) {
	s, impossible = &Servers{Private: map[string]*testdb.Server{}}, map[string]string{}
	for _, word := range list {
		kind, dsn, given := strings.Cut(word, "=")
		switch {
		case word == wordNone:
		case word == wordSQLite:
			s.Databases = append(s.Databases, Database{Name: "bank-sqlite", Kind: bankstore.SQLite, DSN: drivers.SQLiteDSN(filepath.Join(dir, "bank.sqlite"))})
		case given && kind == wordPostgres:
			s.Databases = append(s.Databases, Database{Name: "bank-postgres", Kind: bankstore.Postgres, DSN: dsn})
		case given && (kind == "mysql" || kind == wordMariaDB):
			s.Databases = append(s.Databases, Database{Name: "bank-mariadb", Kind: bankstore.MySQL, DSN: dsn})
		case word == wordPostgres || word == wordMariaDB:
			if err := s.private(ctx, word); err != nil {
				return nil, nil, errors.Join(err, s.Close())
			}
		case word == wordInstalled:
			s.Databases = append(s.Databases, Database{Name: "bank-sqlite", Kind: bankstore.SQLite, DSN: drivers.SQLiteDSN(filepath.Join(dir, "bank.sqlite"))})
			for _, name := range []string{wordPostgres, wordMariaDB} {
				if err := s.private(ctx, name); errors.Is(err, testdb.ErrNotInstalled) {
					impossible[name] = err.Error()
				} else if err != nil {
					return nil, nil, errors.Join(err, s.Close())
				}
			}
		default:
			return nil, nil, errors.Join(CheckDatabases([]string{word}), s.Close())
		}
	}
	return s, impossible, nil
}

// CheckDatabases says what is wrong with a list of databases.
func CheckDatabases(list []string) error {
	for _, word := range list {
		kind, dsn, given := strings.Cut(word, "=")
		switch word {
		case wordNone, wordSQLite, wordPostgres, wordMariaDB, wordInstalled:
			continue
		}
		if !given || dsn == "" || kind != wordPostgres && kind != "mysql" && kind != wordMariaDB {
			return fmt.Errorf("no database is named %q: choose of sqlite, postgres, mariadb, installed, none, postgres=DSN and mysql=DSN", kind)
		}
	}
	return nil
}

// Offers says whether a list of databases holds one of the kinds that is possible
// here; own says that it must be a private server.
func Offers(list []string, own bool, kinds ...bankstore.Kind) bool {
	for _, word := range list {
		name, _, given := strings.Cut(word, "=")
		if given && own {
			continue
		}
		for _, kind := range kinds {
			switch {
			case name == wordInstalled && (kind == bankstore.SQLite || testdb.Installed(string(kind)) == nil),
				name == string(kind), name == wordMariaDB && kind == bankstore.MySQL:
				return true
			}
		}
	}
	return false
}

// private starts a server.
func (s *Servers) private(ctx context.Context, word string) error {
	name, kind := "bank-"+word, bankstore.Postgres
	var server *testdb.Server
	var err error
	if word == wordPostgres {
		server, err = testdb.StartPostgres(ctx, fmt.Sprintf("max_prepared_transactions=%d", postgresSlots), "deadlock_timeout=200ms")
	} else {
		kind = bankstore.MySQL
		server, err = testdb.StartMariaDB(ctx)
	}
	if err != nil {
		return err
	}
	s.Private[name] = server
	s.Databases = append(s.Databases, Database{Name: name, Kind: kind, DSN: server.DSN()})
	return nil
}

// Close ends the private servers.
func (s *Servers) Close() error {
	var errs []error
	for _, server := range s.Private {
		errs = append(errs, server.Signal(syscall.SIGCONT), server.Close())
	}
	s.Private = map[string]*testdb.Server{}
	return errors.Join(errs...)
}

// Addresses are where the databases listen, by resource: what proxies lead to.
func (s *Servers) Addresses() map[string]string {
	found := map[string]string{}
	for _, d := range s.Databases {
		if address := d.address(); address != "" {
			found[d.Name] = address
		}
	}
	return found
}

// address is the host and port of a DSN; empty where there is none to be read.
func (d Database) address() string {
	switch d.Kind {
	case bankstore.Postgres:
		if u, err := url.Parse(d.DSN); err == nil && u.Port() != "" {
			return u.Host
		}
	case bankstore.MySQL:
		_, rest, ok := strings.Cut(d.DSN, "@tcp(")
		address, _, closed := strings.Cut(rest, ")")
		if _, _, err := net.SplitHostPort(address); ok && closed && err == nil {
			return address
		}
	}
	return ""
}

// Hold keeps locks on a resource's accounts until the returned function is called,
// as a person does who forgets a session.
func (b *Bank) Hold(ctx context.Context, resource string) (release func() error, err error) {
	r, t, err := b.tables(resource)
	if err != nil {
		return nil, err
	}
	statements := map[bankstore.Kind][]string{
		bankstore.Postgres: {"BEGIN", "LOCK TABLE " + t.Accounts() + " IN ACCESS EXCLUSIVE MODE"},
		bankstore.MySQL:    {"LOCK TABLES " + t.Accounts() + " WRITE"},
		bankstore.SQLite:   {"BEGIN IMMEDIATE"},
	}[r.Kind]
	conn, err := t.DB.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", s, err), dropConnection(conn), t.Close())
		}
	}
	return sync.OnceValue(func() error { return errors.Join(dropConnection(conn), t.Close()) }), nil
}

// UseUpSlots prepares transactions of others in Postgres until it takes no more.
// release rolls them back.
func (b *Bank) UseUpSlots(ctx context.Context, resource string) (used int, release func(context.Context) error, err error) {
	r, t, err := b.tables(resource)
	if err != nil {
		return 0, nil, err
	}
	defer t.Close()
	const name, most = "slot-%d-%d", 1000
	stamp := time.Now().UnixNano()
	for used < most {
		conn, err := t.DB.Conn(ctx)
		if err != nil {
			break
		}
		_, err = conn.ExecContext(ctx, "BEGIN")
		if err == nil {
			// A transaction needs no write to be prepared.
			_, err = conn.ExecContext(ctx, "PREPARE TRANSACTION "+xidLiteral(r.Kind, fmt.Sprintf(name, stamp, used)))
		}
		_ = dropConnection(conn)
		if err != nil {
			break
		}
		used++
	}
	return used, func(ctx context.Context) error {
		_, t, err := b.tables(resource)
		if err != nil {
			return err
		}
		defer t.Close()
		var errs []error
		for i := range used {
			errs = append(errs, rollbackXid(ctx, t, r.Kind, fmt.Sprintf(name, stamp, i)))
		}
		return errors.Join(errs...)
	}, nil
}

// EndSessions ends every session of others on a resource's database, as an
// administrator may, and returns how many there were.
func (b *Bank) EndSessions(ctx context.Context, resource string) (ended int, err error) {
	r, t, err := b.tables(resource)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	if r.Kind == bankstore.Postgres {
		err = t.DB.QueryRowContext(ctx, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()").Scan(&ended)
		return ended, err
	}
	conn, err := t.DB.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	rows, err := conn.QueryContext(ctx, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return 0, err
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, err
	}
	for _, id := range ids {
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err == nil {
			ended++
		}
	}
	return ended, nil
}
