// How a frozen T5 runs on this machine.
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;

namespace IptNative.Model.Forward;

/// <summary>Settings of <see cref="FrozenT5"/>.</summary>
public sealed record FrozenT5Options
{
    /// <summary>Threads of ONNX Runtime, the caller's included; 0 takes the machine's cores.</summary>
    public int Threads { get; init; }

    /// <summary>
    /// Let ONNX Runtime's idle threads spin for a moment before they sleep (true). It shortens the gap between two ops;
    /// turn it off where kernels of our own use the same cores between two passes.
    /// </summary>
    public bool AllowSpinning { get; init; } = true;

    /// <summary>
    /// Allows f32 copies of int8 and int4 weights, which ONNX Runtime's CPU kernels cannot read, and takes the sentence that says so when the first is made.
    /// Null refuses instead: a quantised model was chosen for its size.
    /// </summary>
    public Action<string>? ExpandQuantised { get; init; }

    /// <summary>Who encodes and generates; null: ONNX Runtime where all weights are f32, else our own kernels, which read them as they are stored.</summary>
    public ForwardEngine? Generation { get; init; }

    /// <summary>The device that results live on and that gathers embeddings; null makes one with a single thread.</summary>
    public CpuDevice? Device { get; init; }
}
