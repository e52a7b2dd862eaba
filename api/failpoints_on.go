//go:build failpoints

package api

import "go.etcd.io/gofail/runtime"

// The name is etcd's.
var fpBeforeSendWatchResponse = runtime.NewFailpoint("beforeSendWatchResponse")

// failpointBeforeSendWatchResponse lets the terms of the failpoint act: panic, sleep or nothing. What a term returns has no meaning here.
func failpointBeforeSendWatchResponse() { _, _ = fpBeforeSendWatchResponse.Acquire() }
