// SPDX-License-Identifier: Apache-2.0
//
// Keeps up with one collection of the Kubernetes API: lists it, page by page, then watches it from
// there on, and begins again where that does not go on (what client-go calls a reflector).
//
// - The first list may come from the server's cache (resourceVersion=0); later ones are not older
//   than what is known. A page or a version that is too old (410) begins a new list, without pages
//   or from the store when it happens again.
// - A watch goes on from the last version seen, be it of an object or of a bookmark. An event that
//   is older than that is dropped: it was overtaken by a list.
// - What fails waits (kube_backoff). What is known stays in force meanwhile.
// - A collection that there is not (404: its CRD is not installed) counts as empty and is asked for
//   from time to time, in each of its versions; one that was there has to be missing twice.
//
// Memory: one object at a time, of KUBE_ANSWER_MAX bytes at most. Thread: the loop's (control).
#pragma once

#include "common/mesh/config_doc.h"
#include "common/mesh/kube_client.h"
#include "common/mesh/kube_split.h"

struct kube_watch;

enum kube_event {
    KUBE_ADDED,
    KUBE_MODIFIED,
    KUBE_DELETED,
    KUBE_BOOKMARK,
    KUBE_ERROR,
    KUBE_N_EVENTS
};
const char *kube_event_text(enum kube_event event); // "ADDED"

enum kube_watch_state {
    KUBE_WATCH_LISTING,
    KUBE_WATCH_WATCHING,
    KUBE_WATCH_WAITING, // after a failure
    KUBE_WATCH_ABSENT, // there is no such collection
    KUBE_WATCH_N_STATES,
};
const char *kube_watch_state_text(enum kube_watch_state state); // "listing"

// The watch itself may be freed from within none of them.
struct kube_watch_ops {
    void (*begin)(struct kube_watch *watch); // a list begins
    // An object as it is now; borrowed. Whatever its kind says: apiVersion and kind are there.
    void (*set)(struct kube_watch *watch, const struct cfg_node *object);
    void (*del)(struct kube_watch *watch, const struct cfg_node *object);
    // The list is whole: what was not set since `begin` is no more.
    void (*end)(struct kube_watch *watch);
    // Its state has changed, or its problem. NULL ok.
    void (*changed)(struct kube_watch *watch);
};

struct kube_watch_params { // texts outlive the watch
    struct loop *loop;
    struct kube_client *client;
    const struct kube_watch_ops *ops;
    struct rand *rand;
    struct arena *scratch; // of one object: empty between two calls
    const char *group, *kind, *plural; // "" = core; "Pod"; "pods"
    const char *versions; // with a space between each; the first is preferred
    const char *ns; // NULL: of all namespaces, or it has none
    const char *name; // one object only; NULL: all
    uint32_t page_limit; // objects of a page
    uint32_t watch_s; // a watch lasts this to twice as long, as the server is asked to end it
    uint32_t grace_ms; // and this much longer at most, whatever the server does
    uint32_t list_ms; // deadline of a page
    uint32_t absent_ms; // between two looks at what is not there
};

struct kube_watch { // to be read; changed here only
    struct kube_watch_params params;
    enum kube_watch_state state;
    bool has_synced; // there was a whole list, or there is no such collection
    char version[32]; // of the API that answers
    char resource_version[64]; // what is known; "" = nothing
    char problem[KUBE_TEXT_MAX]; // why it waits; "" = it does not
    enum kube_outcome outcome; // of what failed last
    uint64_t n_lists, n_watches, n_failures, n_stale;
    uint64_t n_events[KUBE_N_EVENTS];
    uint64_t changed_at; // monotonic ns, of the state
    // private
    struct kube_request request;
    struct kube_split split;
    struct timer timer;
    struct kube_backoff backoff;
    char *page; // token of the next one; NULL: the first
    uint64_t opened_at, listed_at;
    uint32_t version_index;
    uint32_t n_missing; // lists in a row without such a collection
    uint32_t n_gone; // versions and pages in a row that were too old
    bool is_watch; // the request is one, or the next will be
    bool has_begun; // a list
    bool was_there; // a list of it was whole
    bool is_open; // the split
    bool has_news; // the watch has told of something
    enum kube_outcome broken; // what was wrong within an answer; KUBE_OK: nothing
    char broken_text[256];
};

void kube_watch_init(struct kube_watch *watch, const struct kube_watch_params *params);
void kube_watch_start(struct kube_watch *watch); // in a later turn of the loop
void kube_watch_fini(struct kube_watch *watch); // nothing is called any more
// Reads an event: the object of it is in *ret_object (KUBE_ERROR: a Status). False: it is none.
bool kube_watch_read_event(const struct cfg_node *root, enum kube_event *ret_event,
                           const struct cfg_node **ret_object);
