package participant

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// "It is neither success nor failure": whatever went wrong last, an unknown outcome is
// none of the errors that say what became of the transaction, however it is wrapped. What
// says nothing of that is found in it.
func TestAnUnknownOutcomeIsNothingElse(t *testing.T) {
	for _, last := range []error{
		&RefusedError{Reason: reasonQuota}, &UnavailableError{Err: ErrClosed}, &RolledBackError{Reason: "TIMEOUT"}, &CommittedError{},
		fmt.Errorf("a step: %w", ErrRefused),
		errors.Join(&RefusedError{Reason: reasonQuota}, context.Canceled),
	} {
		err := fmt.Errorf("outer: %w", &OutcomeUnknownError{GID: bornGID, Err: last})
		var refused *RefusedError
		var unavailable *UnavailableError
		var rolledBack *RolledBackError
		var committed *CommittedError
		if errors.As(err, &refused) || errors.As(err, &unavailable) || errors.As(err, &rolledBack) || errors.As(err, &committed) ||
			errors.Is(err, ErrRefused) || refusedWith(err) != "" {
			t.Errorf("%v is taken for an outcome", err)
		}
		var unknown *OutcomeUnknownError
		if !errors.Is(err, ErrUnknown) || !errors.As(err, &unknown) || unknown.Err != last {
			t.Errorf("%v is not unknown", err)
		}
		if errors.Is(err, context.Canceled) != errors.Is(last, context.Canceled) || errors.Is(err, ErrClosed) != errors.Is(last, ErrClosed) {
			t.Errorf("%v: what ended it is not found in it", err)
		}
	}
}

// Who asked, and may have been heard, does not know what became of it, although nobody
// can be asked any more: the client is closed, or a node of another cluster has answered.
func TestARequestThatMayHaveBeenHeardStaysUnknown(t *testing.T) {
	ends := map[string]struct {
		after func(c *Client) error
		want  error
	}{
		"closed":        {func(c *Client) error { c.nodes.close(); return errStreamEnded }, ErrClosed},
		"other cluster": {func(c *Client) error { c.clock.cluster = "another"; return nil }, ErrOtherCluster},
	}
	for name, end := range ends {
		for _, first := range []error{nil, errStreamEnded, ofCluster(reasonNotLeader, 0)} {
			t.Run(fmt.Sprintf("%s after %v", name, first), func(t *testing.T) {
				c := lonely(t)
				answers := []func() error{func() error { return end.after(c) }}
				if first != nil {
					answers = append([]func() error{func() error { return first }}, answers...)
				}
				said := error(nil)
				_, err := call(t.Context(), c, bornGID, func(context.Context, grpc.ClientConnInterface) (*quoratev1.CommitResponse, error) {
					if len(answers) == 0 {
						t.Fatal("asked once more")
					}
					said, answers = answers[0](), answers[1:]
					return &quoratev1.CommitResponse{Header: &quoratev1.ResponseHeader{ClusterId: "ours"}}, said
				})
				unknown := errors.Is(first, errStreamEnded) || said != nil
				if errors.Is(err, ErrUnknown) != unknown || !errors.Is(err, end.want) {
					t.Errorf("%v, want %v, unknown: %t", err, end.want, unknown)
				}
			})
		}
	}
}
