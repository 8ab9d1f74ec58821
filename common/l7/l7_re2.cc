// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_re2.h"

#include <cstdio>
#include <memory>
#include <vector>

#include <re2/re2.h>
#include <re2/set.h>

struct l7_re2 {
    l7_re2(const re2::StringPiece &pattern, const RE2::Options &options) : re(pattern, options) {
    }
    RE2 re;
};

struct l7_re2_set {
    explicit l7_re2_set(const RE2::Options &options) : set(options, RE2::ANCHOR_BOTH) {
    }
    RE2::Set set;
};

namespace {

constexpr int kMaxGroups = 10;

RE2::Options make_options(int64_t max_mem) {
    RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(max_mem);
    return options;
}

} // namespace

struct l7_re2 *l7_re2_new(const char *pattern, size_t len, int64_t max_mem, char *error,
                          size_t error_size) {
    auto re = std::make_unique<l7_re2>(re2::StringPiece(pattern, len), make_options(max_mem));
    if (re->re.ok()) {
        return re.release();
    }
    snprintf(error, error_size, "%s", re->re.error().c_str());
    return nullptr;
}

void l7_re2_free(struct l7_re2 *re) {
    delete re;
}

int l7_re2_n_groups(const struct l7_re2 *re) {
    return re->re.NumberOfCapturingGroups();
}

bool l7_re2_matches(const struct l7_re2 *re, const char *text, size_t len) {
    return re->re.Match(re2::StringPiece(text, len), 0, len, RE2::ANCHOR_BOTH, nullptr, 0);
}

bool l7_re2_find(const struct l7_re2 *re, const char *text, size_t len, size_t from,
                 struct l7_re2_group *ret_groups, int n_groups) {
    re2::StringPiece groups[kMaxGroups];
    int n = n_groups < kMaxGroups ? n_groups : kMaxGroups;
    if (!re->re.Match(re2::StringPiece(text, len), from, len, RE2::UNANCHORED, groups, n)) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        bool is_set = groups[i].data() != nullptr;
        ret_groups[i].start = is_set ? static_cast<size_t>(groups[i].data() - text) : 0;
        ret_groups[i].len = groups[i].size();
    }
    return true;
}

struct l7_re2_set *l7_re2_set_new(const struct l7_re2 *const *items, size_t n, int64_t max_mem) {
    auto set = std::make_unique<l7_re2_set>(make_options(max_mem));
    for (size_t i = 0; i < n; i++) {
        if (set->set.Add(items[i]->re.pattern(), nullptr) < 0) {
            return nullptr;
        }
    }
    return set->set.Compile() ? set.release() : nullptr;
}

void l7_re2_set_free(struct l7_re2_set *set) {
    delete set;
}

int l7_re2_set_match(const struct l7_re2_set *set, const char *text, size_t len,
                     uint64_t *ret_bits) {
    static thread_local std::vector<int> found;
    RE2::Set::ErrorInfo info;
    if (set->set.Match(re2::StringPiece(text, len), &found, &info)) {
        for (int index : found) {
            ret_bits[index / 64] |= uint64_t{1} << (index % 64);
        }
        return 1;
    }
    return info.kind == RE2::Set::kNoError ? 0 : -1;
}
