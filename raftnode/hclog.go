package raftnode

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// libraryLogger passes on what the library logs, one level lower: its errors
// are mostly news of other nodes that are down, and what matters to an operator
// is said by the node itself.
func libraryLogger(to *slog.Logger, name string) hclog.InterceptLogger {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: name, Level: hclog.Debug, Output: io.Discard})
	logger.RegisterSink(librarySink{to.With("from", name)})
	return logger
}

// errorSink calls f for each error logged, for a library that tells an error to
// nobody but its log.
type errorSink struct {
	f func(msg string, args ...any)
}

// Accept implements hclog.SinkAdapter.
func (s *errorSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if level >= hclog.Error {
		s.f(msg, args...)
	}
}

type librarySink struct{ to *slog.Logger }

var libraryLevels = map[hclog.Level]slog.Level{
	hclog.Error: slog.LevelWarn,
	hclog.Warn:  slog.LevelInfo,
	hclog.Info:  slog.LevelDebug,
}

// Accept implements hclog.SinkAdapter.
func (s librarySink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if at, ok := libraryLevels[level]; ok && s.to.Enabled(context.Background(), at) {
		s.to.Log(context.Background(), at, msg, args...)
	}
}
