// The seam between the backward sweep and whoever computes the forward pass before it.
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;

namespace IptNative.Model.Backward;

/// <summary>How much of the forward pass is kept for the backward sweep; more is faster, less is smaller.</summary>
public enum Activations
{
    /// <summary>Each block's input; everything else is computed again.</summary>
    Blocks,

    /// <summary>Each sublayer's input; the inside of a sublayer is computed again.</summary>
    Sublayers,

    /// <summary>Also every projection inside a sublayer; only norms and attention probabilities are computed again.</summary>
    Full,
}

/// <summary>Who computes the forward pass of a training step.</summary>
public enum ForwardEngine
{
    /// <summary>ONNX Runtime, on a padded batch.</summary>
    Ort,

    /// <summary>The kernels that the backward sweep recomputes with, on packed rows: nothing is computed for padding.</summary>
    Native,
}

/// <summary>Where frozen weights are while a step computes.</summary>
public enum WeightResidence
{
    /// <summary>Read whole before the first step.</summary>
    Resident,

    /// <summary>Mapped from the file: read when first touched, and kept as long as the system has room.</summary>
    Mapped,

    /// <summary>Block by block: read ahead of the block that computes and given back behind it. Peak memory does not grow with the number of layers.</summary>
    Streamed,
}

/// <summary>Who computes the forward pass where nobody was asked for.</summary>
public static class ForwardEngines
{
    /// <summary>Training: our own kernels, which leave padding out, hold no arena and were the faster at every shape measured (docs/decisions/training.md).</summary>
    public const ForwardEngine Training = ForwardEngine.Native;

    /// <summary>Encoding and decoding of answers: our own kernels, for every weight format and precision (docs/decisions/training.md). ONNX Runtime is the reference beside them, for float32 weights.</summary>
    public const ForwardEngine Generating = ForwardEngine.Native;
}

/// <summary>A forward pass that leaves a tape.</summary>
internal interface ITapedForward : IDisposable
{
    /// <summary>The encoder's tape of the last pass, packed rows.</summary>
    StackTape Encoder { get; }

    /// <summary>The decoder's tape of the last pass, packed rows.</summary>
    StackTape Decoder { get; }

    /// <summary>f32 [R, D]: the encoder's output after its final norm.</summary>
    Tensor EncoderOutput { get; }

    /// <summary>Bytes of activations held.</summary>
    long Bytes { get; }

    /// <summary>Runs both stacks; the loss head is not part of it.</summary>
    /// <param name="batch">Examples with labels.</param>
    /// <param name="prompts">Their prompts; null where none has one.</param>
    /// <param name="inputs">The same batch, packed.</param>
    void Run(T5Batch batch, PromptTable? prompts, PackedInputs inputs);
}
