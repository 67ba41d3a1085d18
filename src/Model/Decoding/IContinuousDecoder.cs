// The seam of continuous batching: a decoder that new texts join while others are half finished. Deliberately not: who joins when.
using IptNative.Model.Forward;

namespace IptNative.Model.Decoding;

/// <summary>A step decoder whose rows need not begin together.</summary>
public interface IContinuousDecoder : IStepDecoder
{
    /// <summary>Adds one row for each encoded example, behind the rows that are there; the next step feeds them decoder_start_token_id.</summary>
    /// <param name="encoded">Of the same model, with the prompts of these examples; not needed any more after this call.</param>
    void Join(EncodedBatch encoded);
}
