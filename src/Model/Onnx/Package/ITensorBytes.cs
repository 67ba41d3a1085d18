// Where a package's writer takes its bytes from: a checkpoint, or a generator of random weights. No file knowledge.
namespace IptNative.Model.Onnx.Package;

/// <summary>Takes the next bytes of the tensor that is being written.</summary>
/// <param name="bytes">Little-endian.</param>
internal delegate void ByteSink(ReadOnlySpan<byte> bytes);

/// <summary>A package's tensors as bytes, asked for one by one in the package's order.</summary>
internal interface ITensorBytes
{
    /// <summary>Hands out exactly the tensor's bytes, in pieces.</summary>
    /// <param name="tensor">The tensor; scales and zero points come right behind their codes.</param>
    /// <param name="put">Takes them.</param>
    void Write(PackageTensor tensor, ByteSink put);
}
