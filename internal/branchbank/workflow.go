package branchbank

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/workflow"
)

const (
	// workflowName is the name of the code that makes a transfer.
	workflowName = "transfer"
	pathResume   = "/workflows"
	// resumeAfter is longer than a transfer takes, a failover in the middle included.
	resumeAfter = 5 * time.Second
	// stepTries bounds the calls of one step in one run of the code; the next run goes on.
	stepTries = 20
	stepPause = 100 * time.Millisecond
	// callMax bounds one call: a bank that stands still is called again.
	callMax = 3 * time.Second
)

// flows is the part of an initiator that runs workflows: the engine, and where the
// cluster asks for unfinished ones.
type flows struct {
	engine *workflow.Engine
	server *http.Server
}

func newFlows(i *Initiator) (*flows, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("branchbank: listen for resumes: %w", err)
	}
	engine := workflow.New(i.client, "http://"+listener.Addr().String()+pathResume, workflow.ResumeAfter(resumeAfter))
	engine.Register(workflowName, i.code)
	mux := http.NewServeMux()
	mux.HandleFunc(pathResume, func(w http.ResponseWriter, r *http.Request) {
		if call, err := fence.FromHTTP(r); err == nil && i.Called != nil {
			i.Called(call)
		}
		engine.ServeHTTP(w, r)
	})
	f := &flows{engine: engine, server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}}
	go func() { _ = f.server.Serve(listener) }() // ends with close
	return f, nil
}

func (f *flows) close() error {
	err := f.server.Close()
	f.engine.Close()
	return err
}

func (i *Initiator) workflow(ctx context.Context, t Transfer) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = i.flows.engine.Execute(ctx, workflowName, t.Key, data)
	return err
}

// code is the workflow: both banks, one after the other, each to be undone.
func (i *Initiator) code(wf *workflow.Workflow, data []byte) ([]byte, error) {
	var t Transfer
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, err
	}
	banks, moves := t.moves()
	for n, bank := range banks {
		_, err := wf.Do(fmt.Sprintf("%02d", n+1), func(ctx context.Context) ([]byte, error) {
			return nil, i.step(ctx, bank+PathAction, moves[n])
		}, workflow.OnRollback(func(ctx context.Context) error {
			return i.step(ctx, bank+PathCompensate, moves[n])
		}))
		if err != nil {
			return nil, err
		}
	}
	return []byte("moved"), nil
}

// step calls a bank until it answers.
func (i *Initiator) step(ctx context.Context, url string, m Move) error {
	var err error
	for range stepTries {
		if err = i.CallBranch(ctx, url, fence.FromContext(ctx), m); err == nil || isFinal(err) {
			return err
		}
		if pause(ctx, stepPause) != nil {
			break
		}
	}
	return err
}

// refusedError is a bank's 409.
type refusedError struct{ text string }

func (e *refusedError) Error() string        { return e.text }
func (e *refusedError) Is(target error) bool { return target == participant.ErrRefused }

func isFinal(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused)
}

// CallBranch makes one branch call as the coordinator would: an initiator's own try, or
// a workflow's step. A refusal is participant.ErrRefused.
func (i *Initiator) CallBranch(ctx context.Context, url string, call Call, m Move) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"Gid": call.GID, "Key": call.Key, "Branch": call.Branch, "Operation": string(call.Operation), "Mode": call.Mode} {
		req.Header.Set("Quorate-"+name, value)
	}
	resp, err := i.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, bodyBytesMax))
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusConflict:
		return &refusedError{string(bytes.TrimSpace(text))}
	}
	return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
}
