// Where one tensor of a package lies: the record between the package's writer and the graph that points at its data. No bytes.
using IptNative.Kernels;

namespace IptNative.Model.Onnx;

/// <summary>A tensor as model.onnx names it and where its bytes lie in the external data.</summary>
/// <param name="Name">HF path, verbatim; the name of the initialiser.</param>
/// <param name="DType">Element type as stored.</param>
/// <param name="Shape">Dimensions as stored: torch layout.</param>
/// <param name="Location">File name of the external data, relative to model.onnx.</param>
/// <param name="Offset">First byte in that file.</param>
/// <param name="Length">Bytes.</param>
internal sealed record PackageTensor(string Name, DType DType, TensorShape Shape, string Location, long Offset, long Length)
{
    /// <summary>The name of a quantised parameter's scales: f32 [rows, blocks of a row].</summary>
    /// <param name="parameter">HF path.</param>
    public static string ScaleOf(string parameter) => $"{parameter}_scale";

    /// <summary>The name of a 4-bit parameter's zero points: u4 [rows, blocks of a row].</summary>
    /// <param name="parameter">HF path.</param>
    public static string ZeroPointOf(string parameter) => $"{parameter}_zero_point";
}
