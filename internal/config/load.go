package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// EnvPrefix opens the name of every environment variable of ours.
const EnvPrefix = "QUORATE_"

// FileFlag is the flag that names the file; it is no setting itself.
const FileFlag = "config"

// otherEnv are variables that start with EnvPrefix and are no settings of a
// node: the clients' (tx, cluster), the failpoints', the file's name.
var otherEnv = []string{
	"QUORATE_CONFIG", "QUORATE_FAILPOINTS", "QUORATE_DETOURS", "QUORATE_CPU_PROFILE", "QUORATE_ENDPOINTS", "QUORATE_OUTPUT",
	"QUORATE_TIMEOUT", "QUORATE_TLS_SERVER_NAME", "QUORATE_OPERATOR",
}

// envTestPrefix opens the names that only tests read.
const envTestPrefix = "QUORATE_TEST_"

// Loaded is a configuration and where each of its values came from.
type Loaded struct {
	Config
	// Origins names, by key, the source: `default`, `file PATH`, `env NAME` or
	// `flag --NAME`.
	Origins map[string]string
}

// AddFlags declares a flag for each setting, and --config.
func AddFlags(flags *pflag.FlagSet) {
	flags.String(FileFlag, "", "Read settings from this YAML file (env QUORATE_CONFIG).")
	defaults := Default()
	for _, s := range Settings() {
		help := fmt.Sprintf("%s [%s]", s.Help, s.Key)
		switch v := s.in(&defaults).Interface().(type) {
		case bool:
			flags.Bool(s.Flag, v, help)
		case []string:
			flags.StringSlice(s.Flag, v, help)
		default:
			flags.String(s.Flag, s.Text(&defaults), help)
		}
	}
}

// Load reads the settings: flags win over environ (as os.Environ gives it),
// environ over the file, the file over Default. It does not Validate.
func Load(flags *pflag.FlagSet, environ []string) (Loaded, error) {
	loaded := Loaded{Config: Default(), Origins: make(map[string]string)}
	for _, s := range Settings() {
		loaded.Origins[s.Key] = "default"
	}
	path, err := filePath(flags, environ)
	if err != nil {
		return loaded, err
	}
	var errs []error
	if path != "" {
		errs = append(errs, loaded.loadFile(path))
	}
	errs = append(errs, loaded.loadEnv(environ), loaded.loadFlags(flags))
	return loaded, errors.Join(errs...)
}

// filePath returns the file's path: of the flag, else of the environment.
func filePath(flags *pflag.FlagSet, environ []string) (string, error) {
	path, err := flags.GetString(FileFlag)
	if err != nil || path != "" {
		return path, err
	}
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, "QUORATE_CONFIG="); ok {
			return value, nil
		}
	}
	return "", nil
}

func (l *Loaded) loadFile(path string) error {
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("read settings from %s: %w", path, err)
	}
	byKey := make(map[string]Setting)
	var keys []string
	for _, s := range Settings() {
		byKey[s.Key] = s
		keys = append(keys, s.Key)
	}
	var errs []error
	for _, key := range k.Keys() {
		s, ok := byKey[key]
		if !ok {
			errs = append(errs, fmt.Errorf("unknown setting %q in %s%s", key, path, didYouMean(key, keys)))
			continue
		}
		errs = append(errs, l.take(s, k.Get(key), "file "+path))
	}
	return errors.Join(errs...)
}

func (l *Loaded) loadEnv(environ []string) error {
	byEnv := make(map[string]Setting)
	var names []string
	for _, s := range Settings() {
		byEnv[s.Env()] = s
		names = append(names, s.Env())
	}
	k := koanf.New(".")
	provider := env.Provider(".", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return environ },
		// "." is no letter of a variable's name, so a name stays one key.
		TransformFunc: func(name, value string) (string, any) { return name, value },
	})
	if err := k.Load(provider, nil); err != nil {
		return fmt.Errorf("read settings from the environment: %w", err)
	}
	var errs []error
	for _, name := range k.Keys() {
		s, ok := byEnv[name]
		switch {
		case ok:
			errs = append(errs, l.take(s, k.Get(name), "env "+name))
		case isOtherEnv(name):
		default:
			errs = append(errs, fmt.Errorf("unknown setting %s in the environment%s", name, didYouMean(name, names)))
		}
	}
	return errors.Join(errs...)
}

func isOtherEnv(name string) bool {
	if strings.HasPrefix(name, envTestPrefix) {
		return true
	}
	for _, other := range otherEnv {
		if name == other {
			return true
		}
	}
	return false
}

func (l *Loaded) loadFlags(flags *pflag.FlagSet) error {
	byFlag := make(map[string]Setting)
	for _, s := range Settings() {
		byFlag[s.Flag] = s
	}
	k := koanf.New("\x00") // no flag's name is split
	var errs []error
	provider := posflag.ProviderWithFlag(flags, "\x00", nil, func(f *pflag.Flag) (string, any) {
		s, ok := byFlag[f.Name]
		if !ok || !f.Changed {
			return "", nil
		}
		errs = append(errs, l.take(s, posflag.FlagVal(flags, f), "flag --"+f.Name))
		return "", nil
	})
	if err := k.Load(provider, nil); err != nil {
		return fmt.Errorf("read settings from flags: %w", err)
	}
	return errors.Join(errs...)
}

// take sets a value and remembers where it came from.
func (l *Loaded) take(s Setting, raw any, origin string) error {
	if err := s.set(&l.Config, raw); err != nil {
		return fmt.Errorf("setting %s (%s): %w", s.Key, origin, err)
	}
	l.Origins[s.Key] = origin
	return nil
}

func didYouMean(word string, candidates []string) string {
	if near := Closest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	// Often the group was left out, or another one was meant.
	for _, candidate := range candidates {
		if lastPart(candidate) == lastPart(word) {
			return fmt.Sprintf("; did you mean %s?", candidate)
		}
	}
	return "; `quorate config show` lists them all"
}

// lastPart is a key without its group.
func lastPart(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }
