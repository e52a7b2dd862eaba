package kv

// RangeResult answers a RangeRequest.
type RangeResult struct {
	// Revision is what the header says: the store's current revision, or inside a transaction that of the
	// transaction.
	Revision Revision
	Rows     Rows
	// Count is the number of keys in the range at the revision read, whatever limit and filters say.
	Count int64
	More  bool
}

// PutResult answers a PutRequest.
type PutResult struct {
	Revision Revision
	// Prev is the encoded KeyValue before the put if it was asked for and there was one, else nil.
	Prev []byte
}

// DeleteRangeResult answers a DeleteRangeRequest.
type DeleteRangeResult struct {
	Revision Revision
	Deleted  int64
	// Prev holds the deleted KeyValues in key order if they were asked for. It is made by PrevRows.
	Prev Rows
}

// OpResult answers one Op: the field of the same name is set.
type OpResult struct {
	Range       *RangeResult
	Put         *PutResult
	DeleteRange *DeleteRangeResult
	Txn         *TxnResult
}

// TxnResult answers a TxnRequest with the results of the branch that ran.
type TxnResult struct {
	Revision  Revision
	Succeeded bool
	Responses []OpResult
}
