// SPDX-License-Identifier: Apache-2.0
#include "common/base/list.h"

#include "tests/unit/base/unit.h"

struct item {
    int number;
    struct list link;
};

static void assert_numbers(const struct list *head, const int *numbers, size_t n) {
    size_t i = 0;
    for (const struct list *pos = head->next; pos != head; pos = pos->next) {
        assert_true(i < n);
        assert_int_equal(LIST_ITEM(pos, struct item, link)->number, numbers[i++]);
        assert_ptr_equal(pos->next->prev, pos);
    }
    assert_int_equal(i, n);
}

static void test_list(void **state) {
    struct list a, b;
    struct item items[5];
    list_init(&a);
    list_init(&b);
    assert_true(list_empty(&a));
    assert_null(list_pop_front(&a));
    for (int i = 0; i < 5; i++) {
        items[i].number = i;
        list_init(&items[i].link);
        assert_false(list_linked(&items[i].link));
    }
    list_push_back(&a, &items[1].link);
    list_push_back(&a, &items[2].link);
    list_push_front(&a, &items[0].link);
    assert_numbers(&a, (int[]){0, 1, 2}, 3);
    list_del(&items[1].link);
    list_del(&items[1].link); // repeating is harmless
    assert_false(list_linked(&items[1].link));
    assert_numbers(&a, (int[]){0, 2}, 2);

    list_push_back(&b, &items[3].link);
    list_push_back(&b, &items[4].link);
    list_splice_back(&a, &b);
    assert_true(list_empty(&b));
    assert_numbers(&a, (int[]){0, 2, 3, 4}, 4);
    list_splice_back(&a, &b);
    assert_numbers(&a, (int[]){0, 2, 3, 4}, 4);
    list_splice_back(&b, &a);
    assert_true(list_empty(&a));
    assert_numbers(&b, (int[]){0, 2, 3, 4}, 4);

    LIST_EACH_SAFE(pos, &b) {
        if (LIST_ITEM(pos, struct item, link)->number % 2 == 0) {
            list_del(pos);
        }
    }
    assert_numbers(&b, (int[]){3}, 1);
    assert_ptr_equal(list_pop_front(&b), &items[3].link);
    assert_true(list_empty(&b));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_list)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
