package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// submitBytesMax is as much as the API takes in.
const submitBytesMax = 1 << 20

// newTxSubmitCommand is `quorate tx submit`.
func newTxSubmitCommand(flags *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "submit FILE|-",
		Short: "Submit a whole transaction from a file of JSON",
		Long: `submit sends what POST /v1/transactions:submit takes: a saga with its steps, a message or a notification with its
endpoints. Payloads are base64. Give the begin a gid or a key where it may be repeated: the same content again is the same
transaction. See how it goes with quorate tx wait, or tx show.`,
		Example: `  echo '{"begin": {"mode": "MODE_SAGA", "key": "order-4711"}, "set": [
    {"id": "1", "endpoint": "http://stock:8081/reserve", "undo": "http://stock:8081/release", "payload": "e30="},
    {"id": "2", "endpoint": "http://pay:8082/charge", "undo": "http://pay:8082/refund", "after": ["1"]}]}' | quorate tx submit -`,
		Args: exactArgs("FILE"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		request, err := readSubmit(cmd.InOrStdin(), args[0])
		if err != nil {
			return withCode(exitUsage, err)
		}
		var answer *quoratev1.SubmitResponse
		err = c.call(cmd.Context(), "submit "+args[0], func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).Submit(ctx, request)
			return err
		})
		if err != nil {
			return err
		}
		if machine(flags.output) {
			return printMessage(cmd.OutOrStdout(), flags.output, answer)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is %s; see how it goes: quorate tx show %s\n", answer.GetGid(), stateWord(answer.GetState()), answer.GetGid())
		return err
	})
	return cmd
}

// readSubmit reads a request, which waits for nothing unless it says so: the
// command's own time is short.
func readSubmit(stdin io.Reader, file string) (*quoratev1.SubmitRequest, error) {
	in := stdin
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer opened.Close()
		in = opened
	}
	text, err := io.ReadAll(io.LimitReader(in, submitBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > submitBytesMax {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, submitBytesMax)
	}
	request := new(quoratev1.SubmitRequest)
	if err := protojson.Unmarshal(text, request); err != nil {
		return nil, fmt.Errorf("%s is no submit request: %w", file, err)
	}
	if begin := request.GetBegin(); begin.GetGid() == "" && begin.GetKey() == "" {
		// A call that is not answered is made again: it must be the same one.
		return nil, fmt.Errorf("%s: begin has neither a gid nor a key, so a repeated call would be another transaction: give \"key\"", file)
	}
	if request.GetWait() == quoratev1.Wait_WAIT_UNSPECIFIED {
		request.Wait = quoratev1.Wait_WAIT_NONE
	}
	return request, nil
}
