package branchcall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/quorate/quorate/coordinator"
)

// errLarge: the answer is larger than AnswerBytesMax.
var errLarge = fmt.Errorf("the answer is larger than %d bytes", AnswerBytesMax)

// post makes one call over HTTP.
func (c *Caller) post(ctx context.Context, t target, d coordinator.Delivery) (coordinator.Answered, error) {
	if dialect := dialectOf(d); dialect != nil {
		return c.postDTM(ctx, t, d, dialect)
	}
	answer, err := c.exchange(ctx, http.MethodPost, t.url.String(), payloadOf(d), d)
	// The status says it all: more words than anybody reads change nothing about it.
	if err != nil && !errors.Is(err, errLarge) {
		return coordinator.Answered{}, err
	}
	return answeredCall(d, statusMeaning(answer.code), answer.what, answer.text)
}

// statusMeaning is HTTP's column of the table.
func statusMeaning(code int) meaning {
	switch {
	case code == http.StatusAccepted || code == http.StatusTooEarly:
		return working
	case code >= 200 && code < 300:
		return done
	case code == http.StatusConflict:
		return refused
	default:
		return again
	}
}

// exchanged is an answer over HTTP.
type exchanged struct {
	code int
	// what names the call and the answer's status.
	what string
	text string
}

// exchange sends a request and reads its answer, both bounded. With errLarge the
// answer's beginning is returned, too.
func (c *Caller) exchange(ctx context.Context, method, url string, body []byte, d coordinator.Delivery) (exchanged, error) {
	call, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return exchanged{}, err
	}
	if len(body) == 0 {
		call.Body, call.GetBody = http.NoBody, nil
	}
	setHeaders(call.Header, d, c.clusterID())
	answer, err := c.http.Do(call)
	if err != nil {
		return exchanged{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	read := exchanged{code: answer.StatusCode, what: fmt.Sprintf("%s %s → %s", method, d.Endpoint, quoted(answer.Status))}
	text, err := io.ReadAll(io.LimitReader(answer.Body, AnswerBytesMax+1))
	if err != nil {
		return exchanged{}, fmt.Errorf("%s: reading the answer: %w", read.what, err)
	}
	if len(text) > AnswerBytesMax {
		read.text = string(text[:AnswerBytesMax])
		return read, fmt.Errorf("%s: %w", read.what, errLarge)
	}
	read.text = string(text)
	return read, nil
}
