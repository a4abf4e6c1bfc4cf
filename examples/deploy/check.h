// Compare an output with the sample's and say what was recognised.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

inline int report(const std::vector<float>& got, const std::vector<float>& expected) {
    float difference = 0, largest = 0;
    if (got.size() != expected.size()) return std::printf("%zu scores instead of %zu\n", got.size(), expected.size()), 1;
    for (size_t i = 0; i < got.size(); ++i) {
        difference = std::max(difference, std::fabs(got[i] - expected[i]));
        largest = std::max(largest, std::fabs(expected[i]));
    }
    std::printf("class %td, largest difference %.1e\n", std::max_element(got.begin(), got.end()) - got.begin(), difference);
    return difference <= 1e-4f * largest ? 0 : 1;
}
