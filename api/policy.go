package api

// access says who may call a method. Until identity exists there is one kind:
// whoever reaches the listener, which needs mutual TLS beyond loopback.
type access uint8

const (
	// denied is the zero value: a method without an entry is refused.
	denied access = iota
	// open until identity exists.
	open
)

// policy is what every registered method must have. *Because* peers shipped
// endpoints that nobody had thought of protecting.
type policy struct {
	access access
	effect effect
	// forward: a call over HTTP goes to the leader when this node does not lead.
	forward bool
}

// policies has an entry for every method that a listener serves; a test
// compares it with what is registered.
var policies = map[string]policy{
	"/quorate.v1.TransactionService/Begin":        {open, changes, true},
	"/quorate.v1.TransactionService/Enlist":       {open, changes, true},
	"/quorate.v1.TransactionService/Vote":         {open, changes, true},
	"/quorate.v1.TransactionService/Commit":       {open, changes, true},
	"/quorate.v1.TransactionService/Rollback":     {open, changes, true},
	"/quorate.v1.TransactionService/Submit":       {open, changes, true},
	"/quorate.v1.TransactionService/SubmitStream": {open, changes, false},
	"/quorate.v1.TransactionService/Resolve":      {open, changes, true},
	"/quorate.v1.TransactionService/Retry":        {open, reads, true},
	"/quorate.v1.TransactionService/Record":       {open, changes, true},
	"/quorate.v1.TransactionService/Stop":         {open, changes, true},
	"/quorate.v1.TransactionService/Subscribe":    {open, changes, true},
	"/quorate.v1.TransactionService/Unsubscribe":  {open, changes, true},
	"/quorate.v1.TransactionService/DeleteTopic":  {open, changes, true},
	"/quorate.v1.TransactionService/ListTopics":   {open, reads, true},
	"/quorate.v1.TransactionService/Get":          {open, reads, true},
	"/quorate.v1.TransactionService/List":         {open, reads, true},
	"/quorate.v1.TransactionService/Watch":        {open, reads, false},

	"/quorate.v1.ParticipantService/Session":     {open, changes, false},
	"/quorate.v1.ParticipantService/Inquire":     {open, changes, true}, // may end an unseen GID
	"/quorate.v1.ParticipantService/Report":      {open, changes, true},
	"/quorate.v1.ParticipantService/ListInDoubt": {open, reads, true},

	"/quorate.v1.ClusterService/Status":         {open, reads, false},
	"/quorate.v1.ClusterService/AddNode":        {open, changes, true},
	"/quorate.v1.ClusterService/Promote":        {open, changes, true},
	"/quorate.v1.ClusterService/Remove":         {open, changes, true},
	"/quorate.v1.ClusterService/TransferLeader": {open, changes, true},
	"/quorate.v1.ClusterService/SetLimits":      {open, changes, true},
	"/quorate.v1.ClusterService/GetLimits":      {open, reads, false},

	// DTM's; each is made of calls of the services above, which go to the leader.
	"/dtmgimp.Dtm/NewGid":          {open, reads, false},
	"/dtmgimp.Dtm/Prepare":         {open, changes, false},
	"/dtmgimp.Dtm/Submit":          {open, changes, false},
	"/dtmgimp.Dtm/Abort":           {open, changes, false},
	"/dtmgimp.Dtm/RegisterBranch":  {open, changes, false},
	"/dtmgimp.Dtm/PrepareWorkflow": {open, changes, false},
	"/dtmgimp.Dtm/Subscribe":       {open, changes, false},
	"/dtmgimp.Dtm/Unsubscribe":     {open, changes, false},
	"/dtmgimp.Dtm/DeleteTopic":     {open, changes, false},

	"/grpc.health.v1.Health/Check": {open, reads, false},
	"/grpc.health.v1.Health/List":  {open, reads, false},
	"/grpc.health.v1.Health/Watch": {open, reads, false},

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {open, reads, false},
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {open, reads, false},
}
