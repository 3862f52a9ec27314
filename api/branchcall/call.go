package branchcall

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/metadata"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/callheader"
)

// A call asks a branch to do something, and the status of its answer is all
// that counts:
//
//	HTTP            gRPC                             means
//	2xx but 202     OK                               done
//	409             ABORTED                          refused: nothing was done, and never will be
//	202, 425        UNAVAILABLE, reason ONGOING      still working: ask again
//	all else        all else                         ask again
//
// Only an action of a saga, a check-back and a resume can be refused. From any
// other a refusal counts as "ask again": what is decided is not refused any more.

// isCall tells a call from the outcome of a two-phase branch.
func isCall(op fsm.Operation) bool {
	switch op {
	case fsm.OperationAction, fsm.OperationCompensate, fsm.OperationConfirm, fsm.OperationCancel,
		fsm.OperationCheckBack, fsm.OperationResume:
		return true
	default:
		return false
	}
}

// meaning is what an answer says.
type meaning uint8

const (
	// again: an error, or nothing that could be read.
	again meaning = iota
	done
	refused
	working
)

// answeredCall turns an answer's meaning into the driver's words. what names the
// call and its answer, text are the branch's own words.
func answeredCall(d coordinator.Delivery, said meaning, what, text string) (coordinator.Answered, error) {
	switch said {
	case done:
		// What a branch says beside "done" nobody needs in the log.
		return coordinator.Answered{Outcome: outcomeOf(d.Operation)}, nil
	case working:
		return coordinator.Answered{Busy: true, Detail: quoted(text)}, nil
	case refused:
		if refusable(d) {
			return coordinator.Answered{Refused: true, Detail: what + because(text)}, nil
		}
		return coordinator.Answered{}, fmt.Errorf("%s: the branch refuses what is decided%s", what, because(text))
	default:
		return coordinator.Answered{}, fmt.Errorf("%s%s", what, because(text))
	}
}

// refusable tells whether a no decides anything. A message that was committed
// must arrive, and best effort has its attempts.
func refusable(d coordinator.Delivery) bool {
	switch d.Operation {
	case fsm.OperationAction:
		return d.Mode == logpb.Mode_MODE_SAGA
	case fsm.OperationCheckBack, fsm.OperationResume:
		return true
	default:
		return false
	}
}

// outcomeOf is what a branch did that did as it was asked.
func outcomeOf(op fsm.Operation) fsm.Outcome {
	switch op {
	case fsm.OperationCompensate, fsm.OperationCancel:
		return logpb.Outcome_OUTCOME_ROLLED_BACK
	default:
		return logpb.Outcome_OUTCOME_COMMITTED
	}
}

// told is one name and value that a call carries.
type told struct{ name, value string }

// carried lists what a call carries. In another tongue the transaction and the
// branch have other names, which its initiator tells branches too: a fence must not
// see two.
func carried(d coordinator.Delivery, cluster string) []told {
	if dialectOf(d) != nil {
		return present([]told{{callheader.Epoch, momentOf(&d).epochText}, {callheader.Trace, d.Traceparent}})
	}
	all := everything(&d, cluster)
	return present(all[:])
}

// everything is what a call carries in our own tongue, what has no value included.
func everything(d *coordinator.Delivery, cluster string) [toldMost]told {
	now := momentOf(d)
	return [toldMost]told{
		{callheader.GID, d.GID.String()},
		{callheader.Operation, operationWord(d.Operation)},
		{callheader.Mode, modeWord(d.Mode)},
		{callheader.Attempt, strconv.FormatUint(uint64(d.Attempt), 10)},
		{callheader.Epoch, now.epochText},
		{callheader.Floor, now.floorText},
		{callheader.Clock, now.clockText}, {callheader.Cluster, cluster},
		{callheader.Key, callheader.Escape(d.Key)}, {callheader.Branch, callheader.Escape(d.Branch)},
		{callheader.Topic, callheader.Escape(d.Topic)}, {callheader.Workflow, callheader.Escape(d.Plan.GetWorkflow())},
		{callheader.Trace, d.Traceparent},
	}
}

// present leaves out what has no value.
func present(list []told) []told {
	return slices.DeleteFunc(list, func(one told) bool { return one.value == "" })
}

// toldMost is how much a call carries at the most.
const toldMost = 13

// moment is when a call began, as the cluster counts it. It never changes.
type moment struct {
	epoch                           coordinator.Epoch
	floorMS, clockMS                uint64
	epochText, floorText, clockText string
}

// latest is the moment of the last call: those that begin together say the same, and need
// no texts of their own.
var latest atomic.Pointer[moment]

func momentOf(d *coordinator.Delivery) *moment {
	if m := latest.Load(); m != nil && m.epoch == d.Epoch && m.floorMS == d.FloorMS && m.clockMS == d.ClockMS {
		return m
	}
	m := &moment{
		epoch: d.Epoch, floorMS: d.FloorMS, clockMS: d.ClockMS,
		epochText: epochText(d), floorText: strconv.FormatUint(d.FloorMS, 10), clockText: strconv.FormatUint(d.ClockMS, 10),
	}
	latest.Store(m)
	return m
}

func epochText(d *coordinator.Delivery) string {
	text := strconv.AppendUint(make([]byte, 0, 24), d.Epoch.Incarnation, 10)
	return string(strconv.AppendUint(append(text, '.'), d.Epoch.Term, 10))
}

// setHeaders writes the caller's own headers, then ours over them.
func setHeaders(header http.Header, d coordinator.Delivery, cluster string) {
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "quorate")
	for _, own := range d.Plan.GetHeaders() {
		if !callheader.Reserved(own.GetName()) {
			header.Set(own.GetName(), own.GetValue())
		}
	}
	for _, ours := range carried(d, cluster) {
		header.Set(ours.name, ours.value)
	}
}

// outgoing is the same for gRPC: a context that carries it.
func outgoing(ctx context.Context, d coordinator.Delivery, cluster string) context.Context {
	dialect := dialectOf(d)
	if dialect == nil && len(d.Plan.GetHeaders()) == 0 {
		var room [2 * toldMost]string
		return metadata.AppendToOutgoingContext(ctx, appendPairs(room[:0], &d, cluster)...)
	}
	ours := carried(d, cluster)
	md := make(metadata.MD, len(ours)+len(d.Plan.GetHeaders()))
	for _, own := range d.Plan.GetHeaders() {
		if !callheader.Reserved(own.GetName()) {
			md.Set(own.GetName(), own.GetValue())
		}
	}
	for _, one := range ours {
		md.Set(one.name, one.value)
	}
	if dialect != nil {
		dialect.addMetadata(md)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// appendPairs appends what nearly every call carries, and no more: names and values by
// turns, for which no map need be made.
func appendPairs(pairs []string, d *coordinator.Delivery, cluster string) []string {
	list := everything(d, cluster)
	for i := range list {
		if list[i].value != "" {
			pairs = append(pairs, metadataNames[i], list[i].value)
		}
	}
	return pairs
}

// metadataNames are the names of everything that a call carries, in that order, as
// metadata has them.
var metadataNames = func() (names []string) {
	for _, one := range everything(new(coordinator.Delivery), "") {
		names = append(names, strings.ToLower(one.name))
	}
	return names
}()

func operationWord(op fsm.Operation) string { return enumWord(operationWords, op) }

func modeWord(mode fsm.Mode) string { return enumWord(modeWords, mode) }

// The words of what every call names: to ask protobuf for them takes longer than many
// another part of the call.
var (
	operationWords = enumWords[fsm.Operation](logpb.Operation_name, "OPERATION_")
	modeWords      = enumWords[fsm.Mode](logpb.Mode_name, "MODE_")
)

func enumWords[E ~int32](names map[int32]string, prefix string) map[E]string {
	words := make(map[E]string, len(names))
	for number, name := range names {
		words[E(number)] = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", "-"))
	}
	return words
}

func enumWord[E ~int32](words map[E]string, e E) string {
	if word, known := words[e]; known {
		return word
	}
	return strconv.Itoa(int(e))
}

// payloadOf is the body of a call.
func payloadOf(d coordinator.Delivery) []byte {
	switch d.Operation {
	case fsm.OperationCheckBack, fsm.OperationResume:
		return d.Plan.GetCallbackPayload()
	default:
		return d.Payload
	}
}
