//go:build !failpoints

package api

// Without the build tag a failpoint is an empty function, which the compiler removes.

func failpointBeforeSendWatchResponse() {}
