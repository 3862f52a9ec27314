package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Setting describes one field of Config.
type Setting struct {
	// Key is its name in the file, such as `listen.grpc`.
	Key string
	// Flag is its name on the command line, without the dashes.
	Flag string
	// Unit is the form of its value, for people.
	Unit string
	// Help is one or two sentences.
	Help string

	group, field int // where it stands in Config
}

// Env returns the setting's name in the environment.
func (s Setting) Env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(s.Flag, "-", "_"))
}

// IsBool says whether the flag may stand without a value.
func (s Setting) IsBool() bool {
	c := Default()
	return s.in(&c).Kind() == reflect.Bool
}

// Settings returns every setting, in the order of Config.
func Settings() []Setting {
	var settings []Setting
	root := reflect.TypeFor[Config]()
	for g := range root.NumField() {
		group := root.Field(g).Type
		for f := range group.NumField() {
			tag := group.Field(f).Tag
			settings = append(settings, Setting{
				Key: tag.Get("key"), Flag: tag.Get("flag"), Unit: tag.Get("unit"), Help: tag.Get("help"),
				group: g, field: f,
			})
		}
	}
	return settings
}

// in returns the setting's field of c.
func (s Setting) in(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().Field(s.group).Field(s.field)
}

// Text returns the setting's value in c, as it would be written.
func (s Setting) Text(c *Config) string {
	switch v := s.in(c).Interface().(type) {
	case []string:
		return strings.Join(v, ",")
	case time.Duration:
		return shortDuration(v)
	default:
		return fmt.Sprint(v)
	}
}

// set parses raw, a value as a file, the environment or a flag gives it, into
// the setting's field of c.
func (s Setting) set(c *Config, raw any) error {
	field := s.in(c)
	if field.Kind() == reflect.Slice {
		list, err := toList(raw)
		if err != nil {
			return err
		}
		field.Set(reflect.ValueOf(list))
		return nil
	}
	switch raw.(type) {
	case []any, []string, map[string]any:
		return fmt.Errorf("a list or a group, but one value (%s) is wanted", s.Unit)
	case nil:
		return fmt.Errorf("no value; write one (%s) or leave the line out", s.Unit)
	}
	text := strings.TrimSpace(fmt.Sprint(raw))
	switch field.Interface().(type) {
	case string:
		field.SetString(text)
	case bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		field.SetBool(v)
	case time.Duration:
		v, err := parseDuration(text)
		if err != nil {
			return err
		}
		field.SetInt(int64(v))
	case int:
		v, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no whole number (%s)", text, s.Unit)
		}
		field.SetInt(int64(v))
	case uint64:
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no whole number from 0 on (%s)", text, s.Unit)
		}
		field.SetUint(v)
	}
	return nil
}

// toList reads a list: of YAML, of a repeated flag, or with commas.
func toList(raw any) ([]string, error) {
	var parts []string
	switch v := raw.(type) {
	case []string:
		parts = v
	case []any:
		for _, item := range v {
			parts = append(parts, fmt.Sprint(item))
		}
	case map[string]any:
		return nil, fmt.Errorf("a group, but a list is wanted")
	case nil:
	default:
		parts = strings.Split(fmt.Sprint(v), ",")
	}
	list := make([]string, 0, len(parts))
	for _, part := range parts {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list, nil
}

// parseDuration wants a unit: a bare number is somebody's guess.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	if _, numeric := strconv.ParseFloat(text, 64); numeric == nil {
		return 0, fmt.Errorf("%q has no unit: write %ss for seconds, %sms for milliseconds", text, text, text)
	}
	return 0, fmt.Errorf("%q is no duration, such as 500ms, 10s or 5m", text)
}

// shortDuration is Duration.String without zero parts: 5m, not 5m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
