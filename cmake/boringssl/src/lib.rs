// SPDX-License-Identifier: Apache-2.0
// Empty on purpose: this package exists only for its dependency.
