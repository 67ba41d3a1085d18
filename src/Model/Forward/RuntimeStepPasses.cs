// A decoder step in ONNX Runtime.
using IptNative.Kernels.Devices;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Graph;

namespace IptNative.Model.Forward;

/// <summary>Steps by the graphs "cross" and "step". The weights are bound once, as f32.</summary>
internal sealed class RuntimeStepPasses(FrozenT5 model) : IStepPasses
{
    private readonly GraphBinding _step = model.Session("step").Bind();

    public void Remember(Tensor hidden, int texts, int source, ReadOnlySpan<Tensor> made)
    {
        T5Config config = model.Config;
        using GraphBinding cross = model.Session("cross").Bind();
        cross.Input(T5RuntimeGraph.EncoderHidden, hidden, texts, source, config.DModel);
        for (int i = 0; i < made.Length; i++)
            cross.Output(CrossName(i), made[i], texts, config.NumHeads, source, config.DKv);
        cross.Run();
    }

    public void Step(StepTensors t)
    {
        int H = model.Config.NumHeads, K = model.Config.DKv, rows = t.Texts * t.Beams;
        _step.Input(T5RuntimeGraph.InputsEmbeds, t.Embeds, t.Texts, t.Beams, model.Config.DModel);
        _step.Input(T5RuntimeGraph.KeyMask, t.Mask, t.Texts, t.Source);
        _step.Input(T5RuntimeGraph.PositionBias, t.Bias, 1, H, 1, t.Length + 1);
        for (int i = 0; i < t.Past.Length; i++)
        {
            _step.Input(PastName(i), t.Past[i], rows, H, t.Length, K);
            _step.Input(CrossName(i), t.Cross[i], t.Texts, H, t.Source, K);
            _step.Output(PresentName(i), t.Present[i], rows, H, t.Length + 1, K);
        }
        _step.Output(T5RuntimeGraph.Logits, t.Logits, t.Texts, t.Beams, model.Config.VocabSize);
        _step.Run();
    }

    public void Leave() => _step.Dispose();

    private static string CrossName(int i) => i % 2 == 0 ? T5RuntimeGraph.CrossKey(i / 2) : T5RuntimeGraph.CrossValue(i / 2);

    private static string PastName(int i) => i % 2 == 0 ? T5RuntimeGraph.PastKey(i / 2) : T5RuntimeGraph.PastValue(i / 2);

    private static string PresentName(int i) => i % 2 == 0 ? T5RuntimeGraph.PresentKey(i / 2) : T5RuntimeGraph.PresentValue(i / 2);
}
