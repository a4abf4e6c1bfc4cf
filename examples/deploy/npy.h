// Read a float32 .npy file (`unzip sample.npz` gives input.npy and output.npy).
#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

struct Array {
    std::vector<int64_t> shape;
    std::vector<float> values;
};

inline Array read_npy(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (content.size() < 10 || content.compare(1, 5, "NUMPY") != 0) throw std::runtime_error(path + ": not an .npy file");
    const size_t length = static_cast<uint8_t>(content[8]) + 256u * static_cast<uint8_t>(content[9]);
    const std::string header = content.substr(10, length);
    std::smatch shape;
    if (header.find("'<f4'") == std::string::npos || !std::regex_search(header, shape, std::regex("\\(([^)]*)\\)")))
        throw std::runtime_error(path + ": not an array of float32");
    Array array;
    size_t count = 1;
    const std::string numbers = shape[1];
    const std::regex digits("\\d+");
    for (std::sregex_iterator size(numbers.begin(), numbers.end(), digits), end; size != end; ++size) {
        array.shape.push_back(std::stoll(size->str()));
        count *= array.shape.back();
    }
    const char* start = content.data() + 10 + length;
    if (content.size() != 10 + length + 4 * count) throw std::runtime_error(path + ": cut short");
    array.values.resize(count);
    std::copy(start, start + 4 * count, reinterpret_cast<char*>(array.values.data()));
    return array;
}
