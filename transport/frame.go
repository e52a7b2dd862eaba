package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge refuses a message larger than the reader allows.
var ErrTooLarge = errors.New("transport: message too large")

const (
	// readBuffer is what one read from a connection brings at most. etcd's number.
	readBuffer = 64 << 10
	// lengthBytes stand before what is read as a whole.
	lengthBytes = 8
	// trustedBytes is how much memory a length that somebody claims is worth. More is taken as the bytes really come, so
	// that eight bytes of nonsense do not cost half a gigabyte.
	trustedBytes = 1 << 20
)

// frames reads lengths and the bytes that follow them.
//
//	Shape   length (8 B, big endian) | that many bytes
type frames struct {
	r     *bufio.Reader
	limit uint64 // of one message
}

func newFrames(r io.Reader, limit uint64) frames {
	return frames{r: bufio.NewReaderSize(r, readBuffer), limit: limit}
}

// uint64 reads a number. io.EOF says that there is not even its first byte.
func (f frames) uint64() (uint64, error) {
	b, err := f.r.Peek(8)
	switch {
	case err != nil && len(b) > 0:
		return 0, inside(err)
	case err != nil:
		return 0, err
	}
	n := binary.BigEndian.Uint64(b)
	if _, err := f.r.Discard(len(b)); err != nil {
		panic(fmt.Sprintf("transport: 8 bytes that were there are not: %v", err))
	}
	return n, nil
}

// bytes reads the next size bytes into memory of their own.
func (f frames) bytes(size uint64) ([]byte, error) {
	if size > f.limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrTooLarge, size, f.limit)
	}
	b := make([]byte, 0, min(size, trustedBytes))
	for {
		n := len(b)
		b = b[:cap(b)]
		if uint64(len(b)) > size {
			b = b[:size]
		}
		if _, err := io.ReadFull(f.r, b[n:]); err != nil {
			return nil, inside(err)
		}
		if uint64(len(b)) == size {
			return b, nil
		}
		b = append(make([]byte, 0, min(size, 2*uint64(len(b)))), b...)
	}
}

// inside turns the end of a stream in the middle of a message into what it is.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendFrame appends what body appends, behind its length.
func appendFrame(dst []byte, body func([]byte) ([]byte, error)) ([]byte, error) {
	at := len(dst)
	dst, err := body(append(dst, 0, 0, 0, 0, 0, 0, 0, 0))
	if err != nil {
		return dst, err
	}
	binary.BigEndian.PutUint64(dst[at:], uint64(len(dst)-at-8))
	return dst, nil
}
