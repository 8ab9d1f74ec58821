// SPDX-License-Identifier: Apache-2.0
//
// Intrusive doubly linked list with a sentinel head. A node that is in no list points at itself
// (after list_init), so list_del is safe to repeat.
#pragma once

#include <stdbool.h>

#include "common/base/check.h"

struct list {
    struct list *prev, *next;
};

#define LIST_ITEM(node, type, member) CONTAINER_OF(node, type, member)
#define LIST_EACH(pos, head) for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
// Safe against removal of `pos` in the body.
#define LIST_EACH_SAFE(pos, head)                                                                  \
    for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head);                  \
         pos = pos##_next, pos##_next = pos->next)

static inline void list_init(struct list *node) {
    node->prev = node->next = node;
}
static inline bool list_empty(const struct list *head) {
    return head->next == head;
}
static inline bool list_linked(const struct list *node) {
    return node->next != node;
}
static inline void list_insert_between(struct list *node, struct list *prev, struct list *next) {
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}
static inline void list_push_front(struct list *head, struct list *node) {
    list_insert_between(node, head, head->next);
}
static inline void list_push_back(struct list *head, struct list *node) {
    list_insert_between(node, head->prev, head);
}
static inline void list_del(struct list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
// Removes and returns the first node, NULL when empty.
static inline struct list *list_pop_front(struct list *head) {
    if (list_empty(head)) {
        return NULL;
    }
    struct list *node = head->next;
    list_del(node);
    return node;
}
// Moves all nodes of `from` to the end of `to`; `from` is empty after it.
static inline void list_splice_back(struct list *to, struct list *from) {
    if (list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    list_init(from);
}
