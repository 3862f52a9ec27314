package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The exit codes, as the root's help documents them. 5 is etcdctl's number for
// the same thing.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnreachable = 4 // unreachable, no leader, timeout: repeat it later
	exitUnhealthy   = 5
	exitRejected    = 6 // by the state of the transaction or of the cluster
	exitDenied      = 7
)

// codedError is an error with an exit code.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// usageError says what is wrong with the command line, and where help is.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	err := fmt.Errorf(format+"\nusage: %s\nmore:  %s --help", append(args, cmd.UseLine(), cmd.CommandPath())...)
	return &codedError{exitUsage, err}
}

// withCode gives an error an exit code.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code, err}
}

// exitCode tells the exit code of a command that ended with err.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if coded := (*codedError)(nil); errors.As(err, &coded) {
		return coded.code
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return exitUnreachable
	}
	if s, ok := grpcStatus(err); ok {
		return exitCodeOf(s)
	}
	return exitError
}

// exitCodeOf maps a node's answer.
func exitCodeOf(s *status.Status) int {
	switch s.Code() {
	case codes.OK:
		return exitOK
	case codes.InvalidArgument:
		return exitUsage
	case codes.NotFound:
		return exitNotFound
	case codes.Unavailable, codes.DeadlineExceeded:
		return exitUnreachable
	case codes.FailedPrecondition, codes.AlreadyExists, codes.ResourceExhausted, codes.Aborted, codes.OutOfRange:
		return exitRejected
	case codes.PermissionDenied, codes.Unauthenticated:
		return exitDenied
	}
	return exitError
}

// grpcStatus returns the status that a node, or gRPC itself, ended a call with.
func grpcStatus(err error) (*status.Status, bool) {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return nil, false
	}
	return s.GRPCStatus(), true
}

// reasonOf returns a node's UPPER_SNAKE reason and its metadata; "" when the
// error did not come from a node.
func reasonOf(err error) (reason string, metadata map[string]string) {
	s, ok := grpcStatus(err)
	if !ok {
		return "", nil
	}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "quorate" {
			return info.GetReason(), info.GetMetadata()
		}
	}
	return "", nil
}

// describe is the text of an error for people: a node's message without gRPC's
// frame, and what to do where that is known.
func describe(err error) string {
	var opErr *net.OpError
	s, ok := grpcStatus(err)
	if !ok || errors.As(err, &opErr) {
		return err.Error()
	}
	text := s.Message()
	if reason, _ := reasonOf(err); reason != "" {
		text = reason + ": " + text
	}
	if prefix, ok := errors.AsType[*callError](err); ok {
		text = prefix.what + ": " + text
	}
	return text
}
