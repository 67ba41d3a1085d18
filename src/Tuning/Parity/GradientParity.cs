// Replays the fixture's prompt gradients, with either forward pass and the fullest and the leanest tape.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Tuning.Parity;

/// <summary>Gradients of the loss with respect to the prompt.</summary>
internal sealed class GradientParity(ParityFixture fixture, Checkpoint checkpoint, FrozenT5 model, PromptTable prompts, ParityTable table)
{
    private static readonly (string Suffix, ForwardEngine Forward, Activations Activations)[] Ways =
    [
        ("", ForwardEngine.Ort, Activations.Full),
        (" (ort, blocks)", ForwardEngine.Ort, Activations.Blocks),
        (" (native, full)", ForwardEngine.Native, Activations.Full),
        (" (native, sublayers)", ForwardEngine.Native, Activations.Sublayers),
    ];

    /// <summary>Who computes the forward pass where one is enough: on the CPU ONNX Runtime, whose provider another device may lack.</summary>
    public static ForwardEngine Forward(FrozenT5 model) => model.Device is CpuDevice ? ForwardEngine.Ort : ForwardEngine.Native;

    private readonly ParityTolerance _tolerance = ParityTolerance.Gradient(checkpoint.Config, checkpoint[T5Parameters.Shared].DType).NotBelow(fixture, "grad_prompt");

    public void All()
    {
        foreach ((string suffix, ForwardEngine forward, Activations activations) in Ways)
        {
            var options = new GradientOptions { Forward = forward, Activations = activations };
            string reference = fixture.Has("grad_prompt64") ? "grad_prompt64" : "grad_prompt";
            int[] lengths = fixture.Lengths();
            One("grad_prompt", suffix, reference, options, () => fixture.Batch("input_ids", "labels", lengths, prompt: 0), mean: true);
            One("grad_prompt_label_smoothed_sum", suffix, "grad_prompt_label_smoothed_sum", options with { Loss = TokenLoss.Plain with { LabelSmoothing = 0.1f } },
                () => fixture.Batch("input_ids", "labels", lengths, prompt: 0), mean: false);
            One("long_grad_prompt", suffix, "long_grad_prompt", options, Long, mean: true);
        }
    }

    /// <summary>Tokens of a batch that count.</summary>
    public static long Tokens(T5Batch batch)
    {
        long tokens = 0;
        for (int b = 0; b < batch.Count; b++)
            tokens += GradientPass.CountedTokens(batch.Labels(b));
        return tokens;
    }

    private T5Batch Long()
    {
        int[] lengths = new int[fixture.Dim("long_input_ids", 0)];
        Array.Fill(lengths, fixture.Dim("long_input_ids", 1));
        return fixture.Batch("long_input_ids", "long_labels", lengths, prompt: 0);
    }

    private void One(string name, string suffix, string reference, GradientOptions options, Func<T5Batch> examples, bool mean)
    {
        if (!fixture.Has(reference))
        {
            table.Skip(name + suffix, "not in this fixture");
            return;
        }
        if (options.Forward == ForwardEngine.Ort && Refusal() is { } refusal)
        {
            table.Skip(name + suffix, refusal);
            return;
        }
        T5Batch batch = examples();
        using var pass = new GradientPass(checkpoint, model, options);
        using DeviceBuffer gradient = model.Device.Allocate(DType.F32, prompts.Values.Elements, name);
        Elementwise.Fill(model.Device, gradient.Tensor, gradient.Tensor.Elements, 0);
        double[] loss = [0];
        pass.Run(batch, prompts, new int[batch.Count], [mean ? 1.0 / Tokens(batch) : 1], loss, gradient.Tensor);
        table.Compare(name + suffix, fixture.Values(reference), ParityTable.Floats(gradient.Tensor), _tolerance);
    }

    // Why ONNX Runtime does not compute there; null where it does.
    private string? Refusal()
    {
        try
        {
            GradientPass.RequireRuntime(checkpoint, model.Device);
            return null;
        }
        catch (NotSupportedException e)
        {
            return e.Message;
        }
    }
}
