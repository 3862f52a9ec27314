package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newTopicCommand is `quorate topic`.
func newTopicCommand() *cobra.Command {
	flags := &clientFlags{}
	cmd := group(&cobra.Command{
		Use:   "topic",
		Short: "Who hears the messages that name a topic",
		Long: `A message or a notification whose branch's endpoint is topic://NAME goes to everybody who is subscribed when it
begins. Changes stand in the log: they take effect at once, on every node.`,
	})
	flags.add(cmd, os.Getenv)
	cmd.AddCommand(newTopicLsCommand(flags), newTopicSubscribeCommand(flags), newTopicUnsubscribeCommand(flags), newTopicRmCommand(flags))
	return cmd
}

// topics reads the pages of the list.
func (c *client) topics(ctx context.Context, name string) (topics []*quoratev1.Topic, err error) {
	request := &quoratev1.ListTopicsRequest{Topic: name, PageSize: pageSize}
	for {
		var page *quoratev1.ListTopicsResponse
		err := c.call(ctx, "list topics", func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			page, err = quoratev1.NewTransactionServiceClient(conn).ListTopics(ctx, request)
			return err
		})
		if err != nil {
			return nil, err
		}
		topics = append(topics, page.GetTopics()...)
		if page.GetNextPageToken() == "" {
			return topics, nil
		}
		request.PageToken = page.GetNextPageToken()
	}
}

func newTopicLsCommand(flags *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls [TOPIC]",
		Aliases: []string{"list"},
		Short:   "List topics with their subscribers",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		name := ""
		if len(args) > 0 {
			name = args[0]
		}
		topics, err := c.topics(cmd.Context(), name)
		if err != nil {
			return err
		}
		if name != "" && len(topics) == 0 {
			return withCode(exitNotFound, fmt.Errorf("there is no topic %q: quorate topic ls", name))
		}
		if machine(flags.output) {
			return printMessages(cmd.OutOrStdout(), flags.output, topics)
		}
		return writeTopics(cmd.OutOrStdout(), topics)
	})
	return cmd
}

// writeTopics prints a line a subscriber; a topic without any has one, too.
func writeTopics(w io.Writer, topics []*quoratev1.Topic) error {
	var t table
	t.row("TOPIC", "VERSION", "SUBSCRIBER", "REMARK")
	for _, topic := range topics {
		version := strconv.FormatUint(topic.GetVersion(), 10)
		if len(topic.GetSubscribers()) == 0 {
			t.row(topic.GetName(), version, none, none)
		}
		for _, s := range topic.GetSubscribers() {
			t.row(topic.GetName(), version, s.GetEndpoint(), orNone(s.GetRemark()))
		}
	}
	return t.write(w)
}

func newTopicSubscribeCommand(flags *clientFlags) *cobra.Command {
	var remark string
	cmd := &cobra.Command{
		Use:     "subscribe TOPIC ENDPOINT",
		Short:   "Add a subscriber; the topic comes to be with its first one",
		Example: `  quorate topic subscribe orders http://stock:8081/ordered --remark "stock, team blue"`,
		Args:    exactArgs("TOPIC", "ENDPOINT"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		var answer *quoratev1.SubscribeResponse
		err := c.call(cmd.Context(), "subscribe to topic "+args[0], func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).Subscribe(ctx, &quoratev1.SubscribeRequest{
				Topic: args[0], Subscriber: &quoratev1.Subscriber{Endpoint: args[1], Remark: remark},
			})
			return err
		})
		if err != nil {
			return err
		}
		return printTopic(cmd.OutOrStdout(), flags.output, answer.GetTopic())
	})
	cmd.Flags().StringVar(&remark, "remark", "", "what people should know of the subscriber")
	return cmd
}

func newTopicUnsubscribeCommand(flags *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unsubscribe TOPIC ENDPOINT",
		Short: "Take a subscriber out; messages that have begun still reach it",
		Args:  exactArgs("TOPIC", "ENDPOINT"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		var answer *quoratev1.UnsubscribeResponse
		err := c.call(cmd.Context(), "unsubscribe from topic "+args[0], func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).Unsubscribe(ctx, &quoratev1.UnsubscribeRequest{Topic: args[0], Endpoint: args[1]})
			return err
		})
		if err != nil {
			return err
		}
		if answer.GetTopic().GetVersion() == 0 && !machine(flags.output) {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "there is no topic %q, so nothing is changed: quorate topic ls\n", args[0])
			return err
		}
		return printTopic(cmd.OutOrStdout(), flags.output, answer.GetTopic())
	})
	return cmd
}

func newTopicRmCommand(flags *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm TOPIC",
		Short: "Delete a topic with all its subscribers; messages that name it are refused then",
		Args:  exactArgs("TOPIC"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		stood, err := c.topics(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		var answer *quoratev1.DeleteTopicResponse
		err = c.call(cmd.Context(), "delete topic "+args[0], func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).DeleteTopic(ctx, &quoratev1.DeleteTopicRequest{Topic: args[0]})
			return err
		})
		if err != nil {
			return err
		}
		if machine(flags.output) {
			return printMessage(cmd.OutOrStdout(), flags.output, answer)
		}
		text := "topic %s is deleted\n"
		if len(stood) == 0 { // repeated, or mistyped
			text = "there was no topic %q, so nothing is changed: quorate topic ls\n"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), text, args[0])
		return err
	})
	return cmd
}

func printTopic(w io.Writer, output string, topic *quoratev1.Topic) error {
	if machine(output) {
		return printMessage(w, output, topic)
	}
	return writeTopics(w, []*quoratev1.Topic{topic})
}
