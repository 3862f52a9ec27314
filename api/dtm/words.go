package dtm

import (
	"bytes"
	"strings"
)

// The words that DTM's clients look for. A client takes any reply whose body
// holds wordFailure for a failed transaction, and wordOngoing for a running one,
// whatever its status: so they stand in a reply only where that is meant.
const (
	wordSuccess = "SUCCESS"
	wordFailure = "FAILURE"
	wordOngoing = "ONGOING"
)

// DTM's types of transactions.
const (
	typeSaga     = "saga"
	typeTCC      = "tcc"
	typeXA       = "xa"
	typeMessage  = "msg"
	typeWorkflow = "workflow"
)

// DTM's states of transactions and of branches.
const (
	statusPrepared  = "prepared"
	statusSubmitted = "submitted"
	statusAborting  = "aborting"
	statusSucceed   = "succeed"
	statusFailed    = "failed"
)

// The escapes leave what a JSON reader understands as it is, and take the word
// out of what a substring search sees: both words stand inside of strings only.
var (
	failureInJSON = [2][]byte{[]byte(wordFailure), []byte(`FAIL\u0055RE`)}
	ongoingInJSON = [2][]byte{[]byte(wordOngoing), []byte(`ONGO\u0049NG`)}
)

// sealJSON takes the words out of a JSON text that are not meant by kind.
func sealJSON(k kind, body []byte) []byte {
	if k != kindFailure {
		body = bytes.ReplaceAll(body, failureInJSON[0], failureInJSON[1])
	}
	if k != kindOngoing {
		body = bytes.ReplaceAll(body, ongoingInJSON[0], ongoingInJSON[1])
	}
	return body
}

// sealText does so for texts that nobody decodes, such as gRPC's messages.
func sealText(k kind, text string) string {
	if k != kindFailure {
		text = strings.ReplaceAll(text, wordFailure, "FAIL-URE")
	}
	if k != kindOngoing {
		text = strings.ReplaceAll(text, wordOngoing, "ONGO-ING")
	}
	return text
}
