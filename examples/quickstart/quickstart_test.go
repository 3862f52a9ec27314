// Package quickstart_test runs the two services as a reader would: against a
// development cluster and two databases.
package quickstart_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/internal/testkit"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// patience bounds each wait.
const patience = 30 * time.Second

func TestQuickstart(t *testing.T) {
	bin := t.TempDir()
	build(t, bin, "../..", "./cmd/quorate")
	build(t, bin, ".", "./orders", "./stock")
	postgres, mysql := testdb.Postgres(t), testdb.MySQL(t)

	dev := start(t, filepath.Join(bin, "quorate"), "dev")
	grpc := dev.find(t, regexp.MustCompile(`gRPC\s+(\S+:\d+)`))
	orders, stock := address(t), address(t)
	start(t, filepath.Join(bin, "stock"), "-listen", stock, "-quorate", grpc, "-mysql", mysql)
	start(t, filepath.Join(bin, "orders"), "-listen", orders, "-quorate", grpc, "-postgres", postgres, "-stock", "http://"+stock)
	reachable(t, stock)
	reachable(t, orders)

	counts := func() string {
		return count(t, "pgx", postgres, "SELECT COALESCE(sum(n), 0) FROM orders") + " ordered, " +
			count(t, "mysql", mysql, "SELECT n FROM stock WHERE item = 'lamp'") + " left"
	}
	buy := func(n int) (int, string) {
		t.Helper()
		answer, err := http.PostForm("http://"+orders+"/buy", url.Values{"item": {"lamp"}, "n": {fmt.Sprint(n)}})
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		said, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(said)
	}

	if code, said := buy(4); code != http.StatusOK {
		t.Fatalf("buying 4 of 10: %d %s", code, said)
	}
	// The answer comes with the decision; the branches end a moment later.
	testkit.Eventually(t, patience, func() bool { return counts() == "4 ordered, 6 left" }, "4 of 10 were bought")
	if code, said := buy(7); code != http.StatusConflict || !strings.Contains(said, "too few") {
		t.Fatalf("buying 7 of 6: %d %s", code, said)
	}
	if code, said := buy(6); code != http.StatusOK {
		t.Fatalf("buying the rest: %d %s", code, said)
	}
	testkit.Eventually(t, patience, func() bool { return counts() == "10 ordered, 0 left" }, "all were bought, once")
	testkit.Eventually(t, patience, func() bool {
		return count(t, "pgx", postgres, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()") == "0"
	}, "nothing stays prepared")
}

// build compiles programs of the module in dir.
func build(t *testing.T, bin, dir string, packages ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", bin + "/"}, packages...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

// program is a running one, and what it says.
type program struct{ lines chan string }

// start runs a program until the test ends.
func start(t *testing.T, argv ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{lines: make(chan string, 1000)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			select {
			case p.lines <- s.Text():
			default: // nobody reads so much
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // interrupted
		w.Close()
		for line := range p.lines {
			if t.Failed() {
				t.Logf("%s: %s", filepath.Base(argv[0]), line)
			}
		}
	})
	return p
}

// find waits for a line that matches and returns what is in its parentheses.
func (p *program) find(t *testing.T, want *regexp.Regexp) string {
	t.Helper()
	limit := time.After(2 * patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("the program ended without saying %v", want)
			}
			if m := want.FindStringSubmatch(line); m != nil {
				return m[1]
			}
		case <-limit:
			t.Fatalf("the program did not say %v", want)
		}
	}
}

func address(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
}

// reachable waits until something listens.
func reachable(t *testing.T, address string) {
	t.Helper()
	testkit.EventuallyNoError(t, patience, func() error {
		answer, err := http.Get("http://" + address)
		if err == nil {
			answer.Body.Close()
		}
		return err
	}, "%s does not answer", address)
}

// count is a query's one value.
func count(t *testing.T, driver, dsn, query string) (v string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}
