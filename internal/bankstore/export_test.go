package bankstore

// For the tests, which import a package that imports this one.
var (
	MoveIn = (*Tables).move
	Query  = func(c Config, text string) string { return (&Tables{config: c}).query(text) }

	ReadPostgresXid = readPostgresXid
	ReadXAXid       = readXAXid
)
