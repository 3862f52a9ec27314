package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load runs Load as a command line would.
func load(t *testing.T, environ []string, args ...string) (Loaded, error) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	return Load(flags, environ)
}

// settingsFile writes a settings file.
func settingsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "quorate.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedenceFlagOverEnvOverFileOverDefault(t *testing.T) {
	path := settingsFile(t, "log:\n  level: warn\n  format: json\nnode:\n  name: of-file\n")
	loaded, err := load(t, []string{"QUORATE_LOG_LEVEL=error", "QUORATE_NAME=of-env", "HOME=/nowhere"},
		"--config", path, "--name", "of-flag")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ key, value, origin string }{
		{"node.name", "of-flag", "flag --name"},
		{"log.level", "error", "env QUORATE_LOG_LEVEL"},
		{"log.format", "json", "file " + path},
		{"raft.profile", "default", "default"},
	} {
		for _, s := range Settings() {
			if s.Key != want.key {
				continue
			}
			if got := s.Text(&loaded.Config); got != want.value || loaded.Origins[s.Key] != want.origin {
				t.Errorf("%s = %q from %q, want %q from %q", s.Key, got, loaded.Origins[s.Key], want.value, want.origin)
			}
		}
	}
}

func TestAFlagGivenWithItsDefaultStillWins(t *testing.T) {
	loaded, err := load(t, []string{"QUORATE_LOG_LEVEL=error"}, "--log-level", "info")
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Log.Level != "info" {
		t.Errorf("log.level = %q: the environment won over a flag", loaded.Log.Level)
	}
}

func TestListsOfEveryLayer(t *testing.T) {
	path := settingsFile(t, "cluster:\n  join: [a:1, b:2]\n")
	for _, c := range []struct {
		environ, args []string
	}{
		{nil, []string{"--config", path}},
		{[]string{"QUORATE_JOIN=a:1, b:2"}, nil},
		{nil, []string{"--join", "a:1,b:2"}},
		{nil, []string{"--join", "a:1", "--join", "b:2"}},
		{[]string{"QUORATE_CONFIG=" + path}, nil},
	} {
		loaded, err := load(t, c.environ, c.args...)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(loaded.Cluster.Join, "|"); got != "a:1|b:2" {
			t.Errorf("%v %v: join = %s", c.environ, c.args, got)
		}
	}
}

func TestWhatIsNoSettingIsAnErrorWithASuggestion(t *testing.T) {
	for _, c := range []struct {
		name, file string
		environ    []string
		want       string
	}{
		{"file", "node:\n  data_dirr: /x\n", nil, `unknown setting "node.data_dirr" in .*did you mean node.data_dir\?`},
		{"file, flat", "data_dir: /x\n", nil, `unknown setting "data_dir" in .*did you mean node.data_dir\?`},
		{"environment", "", []string{"QUORATE_DATADIR=/x"}, `unknown setting QUORATE_DATADIR in the environment; did you mean QUORATE_DATA_DIR\?`},
		{"nothing near", "zzzzzzzzzzzz: 1\n", nil, "quorate config show"},
		{"no unit", "tx:\n  stuck_after: 10\n", nil, `tx.stuck_after \(file .*\): "10" has no unit: write 10s`},
		{"no duration", "tx:\n  stuck_after: soon\n", nil, "no duration"},
		{"no number", "", []string{"QUORATE_IN_FLIGHT=many"}, `tx.in_flight \(env QUORATE_IN_FLIGHT\): "many" is no whole number`},
		{"negative", "raft:\n  trailing_logs: -1\n", nil, "no whole number from 0 on"},
		{"no truth", "", []string{"QUORATE_INSECURE=perhaps"}, "neither true nor false"},
		{"a list for a value", "node:\n  name: [a, b]\n", nil, "a list or a group"},
		{"no value", "node:\n  name:\n", nil, "no value"},
		{"a group for a value", "node:\n  name: {a: b}\n", nil, `unknown setting "node.name.a"`},
		{"no YAML", "node: [", nil, "read settings from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var args []string
			if c.file != "" {
				args = []string{"--config", settingsFile(t, c.file)}
			}
			_, err := load(t, c.environ, args...)
			if err == nil || !regexp.MustCompile(c.want).MatchString(err.Error()) {
				t.Errorf("error %v, want one that matches %q", err, c.want)
			}
		})
	}
}

func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	_, err := load(t, []string{"QUORATE_DATADIR=/x", "QUORATE_IN_FLIGHT=many"}, "--config", settingsFile(t, "nod:\n  name: x\n"))
	for _, want := range []string{"QUORATE_DATADIR", "tx.in_flight", "nod.name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to name %s", err, want)
		}
	}
}

func TestAMissingFileIsAnError(t *testing.T) {
	if _, err := load(t, nil, "--config", filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("no error for a file that does not exist")
	}
}

func TestOtherVariablesOfOursAreNoSettings(t *testing.T) {
	if _, err := load(t, []string{"QUORATE_FAILPOINTS=x", "QUORATE_DETOURS=x", "QUORATE_CPU_PROFILE=x", "QUORATE_ENDPOINTS=a:1", "QUORATE_TEST_POSTGRES=x"}); err != nil {
		t.Error(err)
	}
}

func TestEverySettingIsDescribedAndNamedOnce(t *testing.T) {
	seen := make(map[string]bool)
	defaults := Default()
	for _, s := range Settings() {
		if s.Key == "" || s.Flag == "" || s.Unit == "" || !strings.HasSuffix(s.Help, ".") {
			t.Errorf("%+v: a setting has a key, a flag, a unit, and a sentence", s)
		}
		if seen[s.Key] || seen["--"+s.Flag] {
			t.Errorf("%s or --%s is used twice", s.Key, s.Flag)
		}
		seen[s.Key], seen["--"+s.Flag] = true, true
		if strings.ToLower(s.Key) != s.Key || strings.Contains(s.Key, "-") || strings.Contains(s.Flag, "_") {
			t.Errorf("%s, --%s: keys are snake_case, flags kebab-case", s.Key, s.Flag)
		}
		// What Text writes, set reads.
		other := Config{}
		if err := s.set(&other, s.Text(&defaults)); err != nil && s.Text(&defaults) != "" {
			t.Errorf("%s: its default %q cannot be read: %v", s.Key, s.Text(&defaults), err)
		}
		if s.Text(&other) != s.Text(&defaults) {
			t.Errorf("%s: %q was read as %q", s.Key, s.Text(&defaults), s.Text(&other))
		}
	}
}

func TestTheDefaultsAreValid(t *testing.T) {
	c := Default()
	if err := Validate(&c); err != nil {
		t.Error(err)
	}
}

func TestValidateSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no name", func(c *Config) { c.Node.Name = "" }, "give --name"},
		{"long name", func(c *Config) { c.Node.Name = strings.Repeat("n", 65) }, "at most 64"},
		{"name with a control character", func(c *Config) { c.Node.Name = "n\x1b1" }, "control character"},
		{"no directory", func(c *Config) { c.Node.DataDir = "" }, "give --data-dir"},
		{"both ways in", func(c *Config) { c.Cluster.Bootstrap = true; c.Cluster.Join = []string{"a:1"} }, "--bootstrap and --join are both given"},
		{"founder without a vote", func(c *Config) { c.Cluster.Bootstrap = true; c.Cluster.NonVoter = true }, "must vote"},
		{"seed without port", func(c *Config) { c.Cluster.Seeds = []string{"a"} }, "host:port"},
		{"listener without port", func(c *Config) { c.Listen.HTTP = "127.0.0.1" }, "listen.http"},
		{"port zero", func(c *Config) { c.Listen.GRPC = "127.0.0.1:0" }, "between 1 and 65535"},
		{"beyond loopback", func(c *Config) { c.Listen.GRPC = "10.0.0.1:36790" }, "--insecure"},
		{"JSON-RPC beyond loopback", func(c *Config) { c.Listen.DTMJSONRPC = "10.0.0.1:36791" }, "listen.dtm_jsonrpc"},
		{"JSON-RPC without port", func(c *Config) { c.Listen.DTMJSONRPC = "127.0.0.1" }, "listen.dtm_jsonrpc"},
		{"a name is beyond loopback", func(c *Config) { c.Listen.GRPC = "n1.example:36790" }, "beyond loopback"},
		{"server TLS alone", func(c *Config) {
			c.Listen.GRPC = "10.0.0.1:36790"
			c.TLS = TLS{CertFile: "c", KeyFile: "k"}
		}, "no mutual TLS"},
		{"everywhere", func(c *Config) { c.Listen.Raft = "0.0.0.0:36792"; c.Listen.Insecure = true }, "give --advertise-raft HOST:PORT"},
		{"everywhere, advertised as that", func(c *Config) {
			c.Listen.Raft, c.Listen.AdvertiseRaft, c.Listen.Insecure = "0.0.0.0:36792", "0.0.0.0:36792", true
		}, "no address that others could use"},
		{"advertised without port", func(c *Config) { c.Listen.AdvertiseGRPC = "n1.example" }, "--advertise-grpc"},
		{"certificate without key", func(c *Config) { c.TLS.CertFile = "c" }, "belong together"},
		{"CA without certificate", func(c *Config) { c.TLS.CAFile = "ca" }, "without tls.cert_file"},
		{"raft TLS alone", func(c *Config) { c.TLS.RaftCertFile, c.TLS.RaftKeyFile = "c", "k" }, "every listener"},
		{"raft key missing", func(c *Config) { c.TLS = TLS{CertFile: "c", KeyFile: "k", RaftCertFile: "r"} }, "tls.raft_key_file"},
		{"raft CA alone", func(c *Config) { c.TLS = TLS{CertFile: "c", KeyFile: "k", RaftCAFile: "r"} }, "without tls.ca_file"},
		{"unknown profile", func(c *Config) { c.Raft.Profile = "fats" }, "did you mean fast?"},
		{"unknown store", func(c *Config) { c.Storage.LogStore = "bolt" }, "did you mean boltdb?"},
		{"unknown level", func(c *Config) { c.Log.Level = "loud" }, "allowed are debug, info, warn, error"},
		{"unknown format", func(c *Config) { c.Log.Format = "xml" }, "log.format"},
		{"no time", func(c *Config) { c.Tx.StuckAfter = 0 }, "tx.stuck_after is too small"},
		{"negative time", func(c *Config) { c.Tx.CallTimeout = -time.Second }, "tx.call_timeout is too small or negative"},
		{"nothing in flight", func(c *Config) { c.Tx.InFlight = 0 }, "tx.in_flight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Default()
			c.change(&config)
			err := Validate(&config)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestValidateAllowsWhatIsSafe(t *testing.T) {
	mutual := TLS{CertFile: "c", KeyFile: "k", CAFile: "ca"}
	for _, change := range []func(*Config){
		func(c *Config) { c.Listen.GRPC = "localhost:1"; c.Listen.HTTP = "[::1]:2" },
		func(c *Config) { c.Listen.GRPC = "10.0.0.1:36790"; c.TLS = mutual },
		func(c *Config) { c.Listen.GRPC = "10.0.0.1:36790"; c.Listen.Insecure = true },
		func(c *Config) {
			c.Listen.Raft, c.Listen.AdvertiseRaft, c.TLS = "0.0.0.0:36792", "n1.example:36792", mutual
		},
	} {
		config := Default()
		change(&config)
		if err := Validate(&config); err != nil {
			t.Error(err)
		}
	}
}

func TestAdvertisedAddressesAreKeptAsNames(t *testing.T) {
	c := Default()
	if c.RaftAddress() != c.Listen.Raft || c.GRPCAddress() != c.Listen.GRPC || c.HTTPAddress() != c.Listen.HTTP {
		t.Error("without an advertised address the listener's is told")
	}
	c.Listen.AdvertiseRaft = "n1.example:36792"
	if c.RaftAddress() != "n1.example:36792" {
		t.Errorf("RaftAddress = %s", c.RaftAddress())
	}
}

func TestClosest(t *testing.T) {
	for _, c := range []struct{ word, want string }{
		{"servee", "serve"}, {"sevre", "serve"}, {"dev", "dev"}, {"xxxxxxxx", ""}, {"", ""},
	} {
		if got := Closest(c.word, []string{"serve", "dev"}); got != c.want {
			t.Errorf("Closest(%q) = %q, want %q", c.word, got, c.want)
		}
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{5 * time.Minute: "5m", 2 * time.Hour: "2h", 90 * time.Second: "1m30s", 10 * time.Second: "10s", 0: "0s"} {
		if got := shortDuration(d); got != want {
			t.Errorf("shortDuration(%v) = %s, want %s", d, got, want)
		}
	}
}
