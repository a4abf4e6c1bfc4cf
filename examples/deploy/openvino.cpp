// Run an exported model with OpenVINO: openvino FOLDER, in which sample.npz has been unzipped.
#include <openvino/openvino.hpp>

#include "check.h"
#include "npy.h"

int main(int argc, char** argv) {
    const std::string folder = argc > 1 ? argv[1] : ".";
    Array input = read_npy(folder + "/input.npy");
    const Array expected = read_npy(folder + "/output.npy");

    ov::Core core;
    // without this, processors with bfloat16 units compute in it
    auto model = core.compile_model(folder + "/inference.onnx", "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = model.create_infer_request();
    const ov::Shape shape(input.shape.begin(), input.shape.end());
    request.set_input_tensor(ov::Tensor(ov::element::f32, shape, input.values.data()));
    request.infer();

    const ov::Tensor output = request.get_output_tensor();
    const float* scores = output.data<float>();
    return report({scores, scores + output.get_size()}, expected.values);
}
