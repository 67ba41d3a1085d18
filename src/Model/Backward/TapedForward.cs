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
