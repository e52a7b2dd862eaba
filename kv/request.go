package kv

// SortOrder and SortTarget are the enums of RangeRequest. Values outside the named ones arrive as they were sent; the
// server refuses them.
type (
	SortOrder  int32
	SortTarget int32
)

// The sort orders and targets of the API.
const (
	SortNone    SortOrder = 0
	SortAscend  SortOrder = 1
	SortDescend SortOrder = 2

	SortByKey     SortTarget = 0
	SortByVersion SortTarget = 1
	SortByCreate  SortTarget = 2
	SortByMod     SortTarget = 3
	SortByValue   SortTarget = 4
)

// RangeRequest asks for the keys of a range at a revision. The zero value of each option switches it off.
type RangeRequest struct {
	KeyRange
	// Limit cuts the answer to so many keys; 0 or less is no limit.
	Limit int64
	// Revision is the revision to read at; 0 or less is the latest.
	Revision     Revision
	SortOrder    SortOrder
	SortTarget   SortTarget
	Serializable bool
	KeysOnly     bool
	CountOnly    bool
	// The filters are inclusive; 0 switches one off.
	MinMod, MaxMod, MinCreate, MaxCreate Revision
}

// PutRequest sets one key.
type PutRequest struct {
	Key, Value  []byte
	Lease       LeaseID
	PrevKV      bool
	IgnoreValue bool
	IgnoreLease bool
}

// DeleteRangeRequest removes the keys of a range.
type DeleteRangeRequest struct {
	KeyRange
	PrevKV bool
}

// CompareResult and CompareTarget are the enums of Compare. An unknown result holds always, as in etcd.
type (
	CompareResult int32
	CompareTarget int32
)

// The results and targets of a compare.
const (
	CompareEqual    CompareResult = 0
	CompareGreater  CompareResult = 1
	CompareLess     CompareResult = 2
	CompareNotEqual CompareResult = 3

	CompareVersion CompareTarget = 0
	CompareCreate  CompareTarget = 1
	CompareMod     CompareTarget = 2
	CompareValue   CompareTarget = 3
	CompareLease   CompareTarget = 4
)

// Compare is one condition of a transaction: every key of the range must satisfy it.
type Compare struct {
	KeyRange
	Result CompareResult
	Target CompareTarget
	// Union is the field number of the operand that was sent (4 version, 5 create, 6 mod, 7 value, 8 lease), 0 if
	// none was. An operand of another target than Target counts as zero.
	Union  int32
	Number int64  // the operand of every target but value
	Value  []byte // the operand of target value
}

// Op is one operation of a transaction: exactly one field is set, none where the client set none.
type Op struct {
	Range       *RangeRequest
	Put         *PutRequest
	DeleteRange *DeleteRangeRequest
	Txn         *TxnRequest
}

// TxnRequest runs Success if every compare holds, else Failure.
type TxnRequest struct {
	Compare          []Compare
	Success, Failure []Op
}

// opDepthMax bounds the nesting of transactions that the decoder follows. The generated code gives up at 10,000 levels of
// messages, two to a transaction; staying below that keeps any entry that enters the log readable by every member.
const opDepthMax = 4000

// DecodeRange reads a RangeRequest. The result aliases b.
func DecodeRange(b []byte, q *RangeRequest) error {
	*q = RangeRequest{}
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case 1:
			q.Key = r.bytes()
		case 2:
			q.End = r.bytes()
		case 3:
			q.Limit = r.int64()
		case 4:
			q.Revision = Revision(r.int64())
		case 5:
			q.SortOrder = SortOrder(r.int32())
		case 6:
			q.SortTarget = SortTarget(r.int32())
		case 7:
			q.Serializable = r.bool()
		case 8:
			q.KeysOnly = r.bool()
		case 9:
			q.CountOnly = r.bool()
		case 10:
			q.MinMod = Revision(r.int64())
		case 11:
			q.MaxMod = Revision(r.int64())
		case 12:
			q.MinCreate = Revision(r.int64())
		case 13:
			q.MaxCreate = Revision(r.int64())
		default:
			r.fail()
		}
	}
	return r.err
}

// DecodePut reads a PutRequest. The result aliases b.
func DecodePut(b []byte, q *PutRequest) error {
	*q = PutRequest{}
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case 1:
			q.Key = r.bytes()
		case 2:
			q.Value = r.bytes()
		case 3:
			q.Lease = LeaseID(r.int64())
		case 4:
			q.PrevKV = r.bool()
		case 5:
			q.IgnoreValue = r.bool()
		case 6:
			q.IgnoreLease = r.bool()
		default:
			r.fail()
		}
	}
	return r.err
}

// DecodeDeleteRange reads a DeleteRangeRequest. The result aliases b.
func DecodeDeleteRange(b []byte, q *DeleteRangeRequest) error {
	*q = DeleteRangeRequest{}
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case 1:
			q.Key = r.bytes()
		case 2:
			q.End = r.bytes()
		case 3:
			q.PrevKV = r.bool()
		default:
			r.fail()
		}
	}
	return r.err
}

// DecodeTxn reads a TxnRequest with everything nested in it. The result aliases b.
func DecodeTxn(b []byte, q *TxnRequest) error { return decodeTxn(b, q, 0) }

// usual is room for what most transactions are: a compare, an operation if it holds and one if not, a put and a range among them. It is
// one allocation where each by itself were five.
type usual struct {
	compare          [1]Compare
	success, failure [1]Op
	put              PutRequest
	read             RangeRequest
	hasPut, hasRead  bool // put, read are taken
}

func (u *usual) newPut() *PutRequest {
	if u.hasPut {
		return new(PutRequest)
	}
	u.hasPut = true
	return &u.put
}

func (u *usual) newRange() *RangeRequest {
	if u.hasRead {
		return new(RangeRequest)
	}
	u.hasRead = true
	return &u.read
}

// addTo adds an empty element to a list, whose first one has its place in room.
func addTo[T any](list *[]T, room *[1]T) *T {
	if *list == nil {
		*list = room[:0]
	}
	var empty T
	*list = append(*list, empty)
	return &(*list)[len(*list)-1]
}

func decodeTxn(b []byte, q *TxnRequest, depth int) error {
	*q = TxnRequest{}
	if depth > opDepthMax {
		return ErrNotCanonical
	}
	room := new(usual)
	r := reader{rest: b}
	for r.next() {
		body := r.bytes()
		if r.err != nil {
			break
		}
		switch r.num {
		case 1:
			r.err = decodeCompare(body, addTo(&q.Compare, &room.compare))
		case 2:
			r.err = decodeOp(body, addTo(&q.Success, &room.success), room, depth)
		case 3:
			r.err = decodeOp(body, addTo(&q.Failure, &room.failure), room, depth)
		default:
			r.fail()
		}
	}
	return r.err
}

// The field numbers of Compare's operands.
const (
	unionVersion = 4
	unionCreate  = 5
	unionMod     = 6
	unionValue   = 7
	unionLease   = 8
)

func decodeCompare(b []byte, c *Compare) error {
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case 1:
			c.Result = CompareResult(r.int32())
		case 2:
			c.Target = CompareTarget(r.int32())
		case 3:
			c.Key = r.bytes()
		case unionVersion, unionCreate, unionMod, unionLease:
			c.Union, c.Number, c.Value = int32(r.num), r.int64(), nil
		case unionValue:
			c.Union, c.Number, c.Value = unionValue, 0, r.bytes()
		case 64:
			c.End = r.bytes()
		default:
			r.fail()
		}
	}
	return r.err
}

// decodeOp reads a RequestOp. protobuf would merge a member of the oneof that comes twice; such input is not
// canonical and goes to the generated code.
func decodeOp(b []byte, op *Op, room *usual, depth int) error {
	r := reader{rest: b}
	for r.next() {
		body := r.bytes()
		if r.err != nil {
			break
		}
		if *op != (Op{}) {
			r.fail()
			break
		}
		switch r.num {
		case 1:
			op.Range = room.newRange()
			r.err = DecodeRange(body, op.Range)
		case 2:
			op.Put = room.newPut()
			r.err = DecodePut(body, op.Put)
		case 3:
			op.DeleteRange = new(DeleteRangeRequest)
			r.err = DecodeDeleteRange(body, op.DeleteRange)
		case 4:
			op.Txn = new(TxnRequest)
			r.err = decodeTxn(body, op.Txn, depth+1)
		default:
			r.fail()
		}
	}
	return r.err
}

// Operand gives the number a compare of target t is held against: the operand sent, or 0 if another one was.
func (c *Compare) Operand(t CompareTarget) int64 {
	if c.Union == unionOf(t) {
		return c.Number
	}
	return 0
}

func unionOf(t CompareTarget) int32 {
	switch t {
	case CompareVersion:
		return unionVersion
	case CompareCreate:
		return unionCreate
	case CompareMod:
		return unionMod
	case CompareValue:
		return unionValue
	case CompareLease:
		return unionLease
	}
	return 0
}

// IsWrite tells whether the transaction can change anything: it holds a put, a delete or a nested transaction. Only
// one that does not is read without the log, as in etcd.
func (q *TxnRequest) IsWrite() bool {
	for _, ops := range [][]Op{q.Success, q.Failure} {
		for i := range ops {
			if ops[i].Range == nil {
				return true
			}
		}
	}
	return false
}

// IsSerializable tells whether every range of a read-only transaction is serializable; an empty one is.
func (q *TxnRequest) IsSerializable() bool {
	for _, ops := range [][]Op{q.Success, q.Failure} {
		for i := range ops {
			if ops[i].Range != nil && !ops[i].Range.Serializable {
				return false
			}
		}
	}
	return true
}

// HasPut tells whether a put stands anywhere in the transaction.
func (q *TxnRequest) HasPut() bool {
	for _, ops := range [][]Op{q.Success, q.Failure} {
		for i := range ops {
			if ops[i].Put != nil || (ops[i].Txn != nil && ops[i].Txn.HasPut()) {
				return true
			}
		}
	}
	return false
}

// LeaseGrantRequest, LeaseRevokeRequest and CompactRequest are the other commands of the data API.
type (
	// LeaseGrantRequest makes a lease that lives TTL seconds after each renewal.
	LeaseGrantRequest struct {
		TTL int64
		ID  LeaseID
	}
	// LeaseRevokeRequest ends a lease and deletes its keys.
	LeaseRevokeRequest struct {
		ID LeaseID
	}
	// CompactRequest drops the history before Revision. Physical asks to wait until it has gone.
	CompactRequest struct {
		Revision Revision
		Physical bool
	}
)

func appendLeaseGrant(dst []byte, q *LeaseGrantRequest) []byte {
	return appendInt(appendInt(dst, 1, q.TTL), 2, int64(q.ID))
}

func appendLeaseRevoke(dst []byte, q *LeaseRevokeRequest) []byte {
	return appendInt(dst, 1, int64(q.ID))
}

func appendCompact(dst []byte, q *CompactRequest) []byte {
	return appendBool(appendInt(dst, 1, int64(q.Revision)), 2, q.Physical)
}

func decodeLeaseGrant(b []byte, q *LeaseGrantRequest) error {
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case 1:
			q.TTL = r.int64()
		case 2:
			q.ID = LeaseID(r.int64())
		default:
			r.fail()
		}
	}
	return r.err
}

func decodeLeaseRevoke(b []byte, q *LeaseRevokeRequest) error {
	r := reader{rest: b}
	for r.next() {
		if r.num != 1 {
			r.fail()
			break
		}
		q.ID = LeaseID(r.int64())
	}
	return r.err
}

func decodeCompact(b []byte, q *CompactRequest) error {
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case 1:
			q.Revision = Revision(r.int64())
		case 2:
			q.Physical = r.bool()
		default:
			r.fail()
		}
	}
	return r.err
}
