package branchcall

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

var (
	writeJSON = protojson.MarshalOptions{UseProtoNames: true}
	// A branch may say more than this version understands.
	readJSON = protojson.UnmarshalOptions{DiscardUnknown: true}
)

// callHTTP posts one delivery and reads the answer by its status.
func (c *Caller) callHTTP(ctx context.Context, t target, d coordinator.Delivery, request *quoratev1.DeliverRequest) (coordinator.Answered, error) {
	body, err := writeJSON.Marshal(request)
	if err != nil {
		return coordinator.Answered{}, err
	}
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url.String(), bytes.NewReader(body))
	if err != nil {
		return coordinator.Answered{}, err
	}
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("Quorate-Gid", request.GetGid())
	call.Header.Set("Quorate-Branch", request.GetBranch())
	answer, err := c.http.Do(call)
	if err != nil {
		return coordinator.Answered{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	status := quoted(answer.Status) // its words are the branch's own
	text, err := io.ReadAll(io.LimitReader(answer.Body, AnswerBytesMax+1))
	if err != nil {
		return coordinator.Answered{}, fmt.Errorf("POST %s → %s: reading the answer: %w", d.Endpoint, status, err)
	}
	if len(text) > AnswerBytesMax {
		return coordinator.Answered{}, fmt.Errorf("POST %s → %s: the answer is larger than %d bytes", d.Endpoint, status, AnswerBytesMax)
	}
	return readHTTP(d, answer.StatusCode, status, text)
}

// readHTTP is the HTTP half of BranchService's table of answers.
func readHTTP(d coordinator.Delivery, code int, status string, text []byte) (coordinator.Answered, error) {
	said := new(quoratev1.DeliverResponse)
	structured := readJSON.Unmarshal(text, said) == nil
	switch {
	case code == http.StatusAccepted || code == http.StatusTooEarly:
		return coordinator.Answered{Busy: true, Detail: quoted(string(text))}, nil
	case code >= 200 && code < 300:
		if !structured {
			// Any other body, or none: the status says it all.
			said = new(quoratev1.DeliverResponse)
		}
		return answered(d, said)
	case code == http.StatusConflict && structured && said.GetOutcome() != quoratev1.Outcome_OUTCOME_UNSPECIFIED:
		return answered(d, said)
	case code == http.StatusConflict:
		return coordinator.Answered{}, refusal(fmt.Sprintf("POST %s → %s", d.Endpoint, status), string(text))
	default:
		return coordinator.Answered{}, fmt.Errorf("POST %s → %s%s", d.Endpoint, status, because(string(text)))
	}
}

// refusal is a no to a decision that cannot be refused any more.
func refusal(what, text string) error {
	return fmt.Errorf("%s: the branch refuses what is decided, without saying what it did instead%s", what, because(text))
}

func because(text string) string {
	if text = quoted(text); text == "" {
		return ""
	}
	return fmt.Sprintf(" %q", text)
}

// quoted is the beginning of a branch's words, fit for a line of a log.
func quoted(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if fsm.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?")))
	for i := range text {
		if i >= detailBytesMax {
			return text[:i] + "..."
		}
	}
	return text
}
