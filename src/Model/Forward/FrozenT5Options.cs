// How a frozen T5 runs on this machine.
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;

namespace IptNative.Model.Forward;

/// <summary>Settings of <see cref="FrozenT5"/>.</summary>
public sealed record FrozenT5Options
{
    /// <summary>Threads that encode and generate, the caller's included: ONNX Runtime's, or those of the device that is made where none is given; 0 takes the machine's cores.</summary>
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

    /// <summary>Who encodes and generates; null: <see cref="ForwardEngines.Generating"/>.</summary>
    public ForwardEngine? Generation { get; init; }

    /// <summary>What products multiply when our own kernels encode and generate; bf16 asks for those. Training's products are the device's own matter.</summary>
    public ComputeType Compute { get; init; } = ComputeType.F32;

    /// <summary>
    /// The device that passes are computed on, or beside ONNX Runtime's; null makes a CPU device. One with memory of its own gets a copy of the weights when
    /// they are first needed, and <see cref="Compute"/> is what it multiplies for answers.
    /// </summary>
    public ComputeDevice? Device { get; init; }
}
